"""The learned multigrid cycle, stated once: what its networks read and answer, and what is made of their answers.

`training/network.py` trains this cycle, `preconditioners/multigrid/learned.py` sets it up for the compiled passes,
which CUDA shares, and `kernels/reference.py` defines it in plain NumPy.

There is one network per kind of level. Each output o of a cell makes one positive coefficient,

    scale exp(o),  o cut to [lowest, highest],

or, if it belongs to the faces along an axis, scale exp(mean of o in both cells of the face). Coefficients of smoothers
are further divided by diagonal entries of A, see `network.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

KINDS = 3  # networks: for the finest level, the second one, and all deeper ones, so that any number of levels works
HANDED = 6  # learned features that a cell hands down to its coarse cell
FEATURES = 8 + HANDED  # volume, Dirichlet weight, weights inside and towards the next cell per axis, handed-down ones
DIRICHLET = 0.4  # share of the summed Dirichlet weights that a coarse cell starts with
A0, C0 = 0.4, 0.4  # scales of the smoothers' coefficients: a damped cycle before training


class Output(NamedTuple):
    """One output of a network and the coefficient that it makes."""

    name: str
    lowest: float
    highest: float
    scale: float = 1.0
    of_face: bool = False


FACES = tuple(Output(f"w{axis}", -2, 2, of_face=True) for axis in range(3))
SMOOTHER = (Output("a", -3, 3, A0), *(Output(f"c{axis}", -4, 3, C0, of_face=True) for axis in range(3)))
PHI, PSI, SHARE = Output("phi", -3, 3), Output("psi", -2, 2), Output("dirichlet", -2, 2)
# The handed-down features follow behind these, uncut.
FINE = (PHI, *SMOOTHER, *SMOOTHER)  # S1 and S2
COARSE = (*FACES, SHARE, PSI, PHI, *SMOOTHER)
# What the finest network sees of a cell of each code (see `kernels/patterns.py`): whether it is an unknown, and half
# the number of its Dirichlet faces.
OCCUPIED = (np.arange(256) > 0).astype(np.float32)
HALF_DIRICHLET = np.maximum(np.arange(256, dtype=np.float32) - 1, 0) / np.float32(2)


def first_of(outputs: tuple[Output, ...], name: str) -> int:
    """Return the number of the first output with a name.

    Examples
    --------
    >>> first_of(FINE, "a"), first_of(COARSE, "psi")
    (1, 4)
    """
    return next(k for k, output in enumerate(outputs) if output.name == name)


def architecture(ndim: int) -> str:
    """Return the name under which weights for 2 or 3 axes are stored.

    Examples
    --------
    >>> architecture(3)
    'learned-multigrid-3d/2'
    """
    return f"learned-multigrid-{ndim}d/2"
