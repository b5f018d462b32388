"""Small systems at once: what a solve takes beside arithmetic is more than arithmetic there.

This is an accelerator only: whatever is not plainly a regular matrix in order takes the ordinary way.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from deepcd.solvers.options import Options
from deepcd.solvers.recipes import FEWEST
from deepcd.solvers.solution import Solution, Status


def solve_small(A: Any, b: Any, options: Options) -> Solution | None:
    """Solve A x = b by sparse factors if that takes one compiled call; else return None.

    Parameters
    ----------
    A, b
        What the caller gave.
    options : Options
        Those of the solve.

    Returns
    -------
    Solution or None
        A converged one.
    """
    if not (isinstance(A, sp.csr_array | sp.csr_matrix) and type(b) is np.ndarray and options.callback is None):
        return None
    n = b.size
    if not (A.shape == (n, n) and b.shape == (n,) and 0 < n <= FEWEST):
        return None
    if not (A.dtype == b.dtype == np.float64 and A.indptr.dtype == A.indices.dtype == np.int32):
        return None
    from deepcd.solvers.kernels import small  # which loads the compiler

    x = np.empty(n)
    size, left = small.solve(A.indptr, A.indices, A.data, b, x)
    target = max(options.tol * size, options.atol)
    if not (left <= target < size < math.inf):
        return None
    if options.residuals is not None:
        options.residuals[:] = [size, left]
    elapsed = time.perf_counter() - options.start
    return Solution(x, Status.CONVERGED, [size, left], preconditioner="direct", work=2.0, setup_time=elapsed)
