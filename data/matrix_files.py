"""Read matrices and vectors from files that anybody may have written: Matrix Market, NumPy's .npy, SciPy's .npz.

Nothing is unpickled, and nothing is allocated that the bytes of the file do not account for: sizes are compared with
what the file holds before they are believed. An .npz is read here and not by `scipy.sparse.load_npz`, which takes the
sizes in a member's header for granted and hands indices that are out of bounds to compiled code.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bsr_array, coo_array, csc_array, csr_array, dia_array

from deepcd.data import matrix_market
from deepcd.data.files import UnusableError, open_regular

FEW_ROWS = 1 << 20  # number of rows that is allowed for (8 MB) however few entries there are
ROWS_PER_ENTRY = 10  # largest number of rows per entry in larger matrices
MAX_NPY_HEADER = 10_000  # largest header of an .npy file in bytes, as in NumPy
MAX_DEFLATE = 1032  # largest number of bytes that one compressed byte can stand for
MARKET = (".mtx", ".mtx.gz")


class MatrixFileError(ValueError):
    """A file holds no matrix or vector that can be used. The message names the file and why."""


def read_matrix(path: str | os.PathLike[str]) -> csr_array:
    r"""Read a square, real, sparse matrix, or refuse it.

    Parameters
    ----------
    path : path-like
        A .mtx or .mtx.gz file (Matrix Market) or an .npz file of :func:`scipy.sparse.save_npz`. Rows without entries,
        such as those of solid cells, are allowed, but above a million rows at most nine in ten may be empty: a system
        needs an entry in every row that is to be solved for, and vectors of the claimed length must not cost more
        memory than the file.

    Returns
    -------
    csr_array of float64, shape (n, n)
        The matrix with sorted indices; entries that are given more than once are summed. NaN and Inf are kept for the
        solver, which names their position.

    Raises
    ------
    MatrixFileError
        If the file is missing, damaged, truncated or not a regular file, claims more than it holds, or holds no such
        matrix.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "A.mtx")
    ...     _ = path.write_text("%%MatrixMarket matrix coordinate real symmetric\n2 2 3\n1 1 2\n2 1 -1\n2 2 2\n")
    ...     read_matrix(path).toarray()
    array([[ 2., -1.],
           [-1.,  2.]])
    """
    path = Path(path)
    if path.name.lower().endswith(MARKET):
        with _reading(path, "a Matrix Market file") as (stream, size):
            header = matrix_market.read_header(stream)
            _check_shape(header.shape, header.entries)
            A = csr_array(matrix_market.read_entries(stream, header, size))
    elif path.suffix.lower() == ".npz":
        with _reading(path, "a sparse matrix written by scipy.sparse.save_npz") as (stream, size):
            A = csr_array(_read_npz(stream, size))
            A.sum_duplicates()
    else:
        raise MatrixFileError(f"{path}: A must be a .mtx, .mtx.gz or .npz file")
    A.sort_indices()
    return A


def read_vector(path: str | os.PathLike[str], n: int) -> NDArray[np.float64]:
    """Read a real vector of length n, or refuse it.

    Parameters
    ----------
    path : path-like
        A .npy file, or a .mtx or .mtx.gz file (Matrix Market), of shape (n,), (n, 1) or (1, n).
    n : int
        Length of the vector.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN and Inf are kept for the solver, which names their position.

    Raises
    ------
    MatrixFileError
        If the file is missing, damaged, truncated or not a regular file, claims more than it holds, or holds no such
        vector.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/b.npy", np.arange(3))
    ...     read_vector(f"{folder}/b.npy", 3)
    array([0., 1., 2.])
    """
    path = Path(path)
    if path.name.lower().endswith(MARKET):
        with _reading(path, "a Matrix Market file") as (stream, size):
            header = matrix_market.read_header(stream)
            _check_length(header.shape, n)
            entries = matrix_market.read_entries(stream, header, size)
            return (entries if isinstance(entries, np.ndarray) else entries.toarray()).reshape(n)
    if path.suffix.lower() != ".npy":
        raise MatrixFileError(f"{path}: b must be a .npy, .mtx or .mtx.gz file")
    with _reading(path, "an array written by numpy.save, without pickled objects") as (stream, size):
        array = _read_npy_header(stream)
        _check_length(array.shape, n)
        return _float(_read_npy_data(stream, array, size, "biuf")).reshape(n)


@contextmanager
def _reading(path: Path, expected: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file, yield its content and its size on disk, and turn every error into a MatrixFileError."""
    try:
        stream = open_regular(path)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise MatrixFileError(f"{path}: {reason}; give {expected}") from error
    with stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    yield unpacked, size  # type: ignore[misc]
            else:
                yield stream, size
        except UnusableError as error:
            raise MatrixFileError(f"{path}: {error}; give {expected}") from error
        except MemoryError as error:
            raise MatrixFileError(f"{path}: does not fit into memory; give a smaller system") from error
        except Exception as error:  # the readers of libraries document no list of what they raise on malformed content
            raise MatrixFileError(f"{path}: is not {expected} ({str(error)[:200]})") from error


def _check_shape(shape: tuple[int, ...], entries: int) -> None:
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise UnusableError(f"A must be square and not empty, got shape {shape}")
    if shape[0] > max(FEW_ROWS, ROWS_PER_ENTRY * entries):
        raise UnusableError(f"claims {shape[0]} rows, but only {entries} entries; remove the rows that have none")


def _check_length(shape: tuple[int, ...], n: int) -> None:
    if shape not in ((n,), (n, 1), (1, n)):
        raise UnusableError(f"b must have the {n} entries of a column of A, got shape {shape}")


def _float(array: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # extended precision may become Inf, which the solver refuses with its position
        return array.astype(np.float64)


def _read_npz(stream: BinaryIO, size: int) -> Any:
    """Read what `scipy.sparse.save_npz` writes: one .npy per array of the format that another one names."""
    with zipfile.ZipFile(stream) as archive:

        def read(name: str, kinds: str) -> NDArray[Any]:
            return _read_member(archive, name, kinds, size)

        form = read("format", "SU").item()
        form = form.decode("ascii") if isinstance(form, bytes) else form
        shape = tuple(map(int, read("shape", "iu").ravel()))
        data = _float(read("data", "biuf"))
        _check_shape(shape, data.size)
        if form in ("csr", "csc", "bsr"):
            compressed = {"csr": csr_array, "csc": csc_array, "bsr": bsr_array}[form]
            indices, indptr = (read(name, "iu").copy() for name in ("indices", "indptr"))  # they are sorted in place
            A = compressed((data, indices, indptr), shape=shape)
            A.check_format(full_check=True)  # compiled code believes what it is given
            return A
        if form == "coo":
            row, column = (
                read("coords", "iu") if "coords.npy" in archive.namelist() else (read("row", "iu"), read("col", "iu"))
            )
            return coo_array((data, (row, column)), shape=shape)
        if form == "dia":
            offsets = read("offsets", "iu")
            if ((offsets <= -shape[0]) | (offsets >= shape[0])).any():
                raise UnusableError(f"is damaged: a diagonal lies outside of shape {shape}")
            return dia_array((data, offsets), shape=shape)
        raise UnusableError(f"is not a sparse matrix written by scipy.sparse.save_npz: its format is {form[:20]!r}")


def _read_member(archive: zipfile.ZipFile, name: str, kinds: str, size: int) -> NDArray[Any]:
    """Read one array of an archive whose directory has not been checked."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        reason = f"is not a sparse matrix written by scipy.sparse.save_npz: it has no member {name}.npy"
        raise UnusableError(reason) from None
    swelling = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MAX_DEFLATE}.get(info.compress_type)
    if swelling is None:
        raise UnusableError(
            f"is damaged: {name}.npy is compressed by method {info.compress_type}, which NumPy never uses"
        )
    if info.compress_size > size or info.file_size > swelling * info.compress_size:
        raise UnusableError(f"is damaged: {name}.npy claims {info.file_size} bytes, more than the file can hold")
    with archive.open(info) as member:
        return _read_npy_data(member, _read_npy_header(member), info.file_size, kinds)


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def _read_npy_header(stream: IO[bytes]) -> _NpyHeader:
    """Read the header of an .npy after checking its length, which NumPy checks only after reading it all."""
    start = stream.read(8)
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(start)
    if width is None:
        raise UnusableError("is not an array written by numpy.save, without pickled objects")
    length = stream.read(width)
    if int.from_bytes(length, "little") > MAX_NPY_HEADER:
        raise UnusableError(f"is damaged: it claims a header of {int.from_bytes(length, 'little')} bytes")
    text = stream.read(int.from_bytes(length, "little"))
    if b"\\" in text:  # NumPy reads it as a Python literal, and Python warns of escapes that it does not know
        raise UnusableError("is damaged: a backslash stands in its header")
    parse = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    return _NpyHeader(*parse(io.BytesIO(length + text)))


def _read_npy_data(stream: IO[bytes], header: _NpyHeader, size: int, kinds: str) -> NDArray[Any]:
    """Read the array after its header, of a dtype kind among `kinds`, from a stream that must hold `size` bytes."""
    shape, fortran_order, dtype = header
    if dtype.hasobject:
        raise UnusableError("holds pickled objects, which are never loaded because they can run code")
    if dtype.kind not in kinds:
        raise UnusableError(f"must be {'real' if 'f' in kinds else 'of integers or a name'}, got {dtype}")
    expected, held = prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or expected != held:
        raise UnusableError(f"is damaged: its header describes {expected} bytes of data, it holds {held}")
    content = stream.read(expected + 1)  # one more, so that an archive compares its checksum
    if len(content) != expected:
        raise UnusableError(f"is truncated: it holds {len(content)} of {expected} bytes of data")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
