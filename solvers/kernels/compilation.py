"""Says so when the kernels are about to be compiled, which takes long enough to look like a hang.

numba keeps what it compiled beside the source files, or in NUMBA_CACHE_DIR, so this happens once per installation.
"""

from __future__ import annotations

import logging
from typing import Any

LOGGER = logging.getLogger("deepcd")
_announced = False


def is_compiled(kernel: Any) -> bool:
    """Return whether a kernel has a valid entry in numba's cache; True if that cannot be told.

    Parameters
    ----------
    kernel : numba dispatcher
        Or a plain function, as with NUMBA_DISABLE_JIT=1.
    """
    try:
        return bool(kernel.signatures) or bool(kernel._cache._cache_file._load_index())
    except (AttributeError, OSError):  # numba offers no public question; without an answer nothing is announced
        return True


def announce(kernel: Any) -> None:
    """Log one warning per process if `kernel`, standing for all, is not compiled yet.

    Parameters
    ----------
    kernel : numba dispatcher
        One that every solve on a grid uses, late.
    """
    global _announced  # noqa: PLW0603
    if not _announced and not is_compiled(kernel):
        LOGGER.warning("deepcd compiles its kernels for this machine: about half a minute, once per installation")
    _announced = True
