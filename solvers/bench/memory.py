"""Peak memory of this process from a chosen moment on.

Linux tells a program's resource usage that of the program that started it as well, so there the kernel's own account
of the address space is read. This file imports nothing of deepcd: programs that are run by their path use it, too.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def forget_peak() -> int:
    """Start to measure the peak memory anew, where the system lets us, and return the memory in use, in bytes."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _of_status("VmRSS")
    return peak()


def peak() -> int:
    """Return the peak memory in bytes."""
    if sys.platform == "linux":
        return _of_status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
