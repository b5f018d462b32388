"""Files that are never half written: made beside their place, synchronised, renamed, and the folder synchronised."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name beside path to write to; once that is done, put it in its place.

    Parameters
    ----------
    path : path-like
        Its folder must exist.

    Yields
    ------
    Path
        Where to write. If that fails, it is removed, and what was at `path` stays.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; it names `path`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a") as temporary:
    ...         _ = temporary.write_bytes(b"new")
    ...     (os.listdir(folder), Path(folder, "a").read_bytes())
    (['a'], b'new')
    """
    path = Path(path)
    # A name of its own for every write: two threads that save to one path must not write into one temporary file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            yield temporary
            with temporary.open("r+b") as stream:
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
