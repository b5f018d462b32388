"""Small systems at once: what a solve takes beside arithmetic is more than arithmetic there.

This is an accelerator only: whatever is not plainly a regular matrix takes the ordinary way.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from deepcd.solvers.arguments import as_csr
from deepcd.solvers.backends.arrays import is_tensor
from deepcd.solvers.backends.backend import Backend
from deepcd.solvers.options import Options
from deepcd.solvers.recipes import FEWEST
from deepcd.solvers.solution import Solution, Status


def solve_small(A: Any, b: Any, options: Options, backend: Backend) -> Solution | None:
    """Solve A x = b by sparse factors if that takes one compiled call; else return None.

    Parameters
    ----------
    A, b
        What the caller gave.
    options : Options
        Those of the solve.
    backend : Backend
        That of the host.

    Returns
    -------
    Solution or None
        A converged one.

    Raises
    ------
    TypeError, ValueError
        If A or b is malformed.
    """
    if options.callback is not None or not _is_small(A):
        return None
    matrix, dtype = as_csr(A)
    if dtype != np.float64:
        return None
    from deepcd.solvers.kernels import small  # which loads the compiler
    from deepcd.solvers.survey import read

    matrix, seen, _ = read(matrix, float(np.finfo(dtype).eps))
    n = matrix.shape[0]
    if seen.lone == n:  # there is nothing to factor
        return None
    right = backend.vector("b", b, n, columns=True)
    if right.ndim != 1:
        return None
    x = np.empty(n)
    size, left = small.solve(matrix.indptr, matrix.indices, matrix.data, right.astype(np.float64), x)
    if not left <= max(options.tol * size, options.atol) < size:
        return None
    if options.residuals is not None:
        options.residuals[:] = [size, left]
    elapsed = time.perf_counter() - options.start
    answer = backend.back(x, b)
    return Solution(answer, Status.CONVERGED, [size, left], preconditioner="direct", work=2.0, setup_time=elapsed)


def _is_small(A: Any) -> bool:
    """Return whether A is some kind of matrix of few rows, but not none."""
    if isinstance(A, list | tuple):
        return 0 < len(A) <= FEWEST
    return (sp.issparse(A) or isinstance(A, np.ndarray) or is_tensor(A)) and A.ndim == 2 and 0 < A.shape[0] <= FEWEST
