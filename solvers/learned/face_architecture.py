"""The learned factors of multigrid on face weights, stated once: what the networks read of a coarse cell, and answer.

There is one network for the second level and one for all deeper ones. Nothing that they read has a scale, so neither
the units nor the contrast of a coefficient matter. Of their answers, a face takes the factor exp(mean of the answers of
both cells), the extra diagonal exp(answer), and the inverse diagonal, which smooths, a factor of at most one. So every
cycle is positive definite, whatever the answers are.
"""

from __future__ import annotations

KINDS = 2
# Per face of a cell, in the order before and after along each axis: its share of the diagonal, the fourth root of that,
# how much of the sum of both diagonals is the neighbour's, and how much its weight was tempered; then the extra
# diagonal's share and the fourth root of that; then which axes were halved.
FEATURES = 4 * 6 + 2 + 3
FACTORS = 5  # of the faces along three axes, of the extra diagonal, of the inverse diagonal
LOWEST = (-1.5, -1.5, -1.5, -1.5, -1.5)  # logarithms of factors are cut to these
HIGHEST = (1.5, 1.5, 1.5, 1.5, 0.0)


def architecture(ndim: int) -> str:
    """Return the name under which weights for 2 or 3 axes are stored.

    Examples
    --------
    >>> architecture(3)
    'face-multigrid-3d/1'
    """
    return f"face-multigrid-{ndim}d/1"
