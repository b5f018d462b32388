"""Files that are never half written: they are written beside their place, synchronised to disk, and then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; when the block ends, put the file that was written there in its place.

    Parameters
    ----------
    path : path-like
        The file to replace, in a folder that exists.

    Yields
    ------
    Path
        The temporary name. If the block fails, the temporary file is removed and the old file stays.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; the error names `path`.

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
    # Every write has a name of its own, because two threads may save to one path at the same time.
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
        if os.name == "posix":  # the rename is durable only after the folder is synchronised
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
