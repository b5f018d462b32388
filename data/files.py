"""Files on a disk that others write to and that may fill up: only regular ones are read, and none is left half written.

Opening a named pipe or a device as if it were a file waits for ever or never ends; it is refused instead. A file is
replaced the usual way: written beside its place, synchronised, renamed, and the folder synchronised.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from pathlib import Path
from typing import BinaryIO


class UnusableError(Exception):
    """Why the content of a file cannot be used. Readers catch it and raise their own error with the file's name."""


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
        If there is no such file, it may not be read, or it is a folder, pipe, socket or device.
    """
    # What it is, is asked once it is open, so that nobody can swap it in between.
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
        Its folder must exist.
    content : bytes

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; it names `path`. What was there stays, and nothing else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(f"{folder}/a", b"old")
    ...     replace(f"{folder}/a", b"new")
    ...     (os.listdir(folder), Path(f"{folder}/a").read_bytes())
    (['a'], b'new')
    """
    path = Path(path)
    # A name of its own for every write: two threads that save to one path must not write into one temporary file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if os.name == "posix":  # the rename itself is durable only once the folder is
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(path: Path) -> None:
    """Remove what writers of path that were killed left beside it; none may be writing it now.

    Parameters
    ----------
    path : Path
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+\.tmp")
    for other in path.parent.iterdir():
        if leftover.fullmatch(other.name):
            other.unlink(missing_ok=True)
