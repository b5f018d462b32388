"""Safe reading and writing on a disk that others use: only regular files are read, and none is left half written.

Reading a named pipe or a device as if it were a file may never end, so it is refused. A file is
replaced the usual way: written beside its place, synchronised, renamed, and the folder synchronised.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from deepcd.pde.files import replacing

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


class UnusableError(Exception):
    """The content of a file cannot be used, and why. Readers raise an error of their own that names the file."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read its bytes, if it is a regular one.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    binary stream

    Raises
    ------
    OSError
        If there is no such file, if it may not be read, or if it is a folder, pipe, socket or device.
    """
    # Its kind is checked once it is open, so that nobody can swap it in between.
    without_waiting = getattr(os, "O_NONBLOCK", 0)
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return stream


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Put content at path such that a crash at any moment leaves the old file or the new one, each whole.

    Parameters
    ----------
    path : path-like
        File to write or replace; its folder must exist.
    content : bytes
        Everything that the file is to hold.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written to. The error names `path`; the old file stays, and nothing
        else is left.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(f"{folder}/a", b"old")
    ...     replace(f"{folder}/a", b"new")
    ...     (os.listdir(folder), Path(f"{folder}/a").read_bytes())
    (['a'], b'new')
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def sole_writer(path: Path, *others: Path) -> Iterator[None]:
    """Keep every other process out of the same context, and remove what killed writers left beside the files.

    The operating system drops the lock with its owner, however that ends; the lock file is then taken over.

    Parameters
    ----------
    path : Path
        A file that is written in this context. Its folder must exist; the lock belongs to this path.
    *others : Path
        More such files.

    Raises
    ------
    BlockingIOError
        If another process is in this context for the same path.
    OSError
        If the folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        if fcntl is not None:
            stream = stack.enter_context(lock.open("ab"))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # An owner that ended just now has removed the file: a lock on what has no name keeps nobody out.
                if not (lock.exists() and os.path.samestat(os.fstat(stream.fileno()), lock.stat())):
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            except BlockingIOError as error:
                reason = "Another process is writing it; wait for its end or name another file"
                raise BlockingIOError(error.errno, reason, str(path)) from error
            stack.callback(lock.unlink, missing_ok=True)  # while it is still held
        names = "|".join(re.escape(file.name) for file in (path, *others))
        for file in path.parent.iterdir():
            if re.fullmatch(rf"\.({names})\.[0-9a-f]+\.tmp", file.name):
                file.unlink(missing_ok=True)
        yield
