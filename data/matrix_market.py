"""Read Matrix Market files in such a way that false claims in a file cost no more memory than its own size.

The format is that of Boisvert, Pozo, Remington, "The Matrix Market Exchange Formats: Initial Design" (NIST IR 5935,
1996). Differences from `scipy.io.mmread`:

1. Memory is allocated for the numbers that were found, not for those that the header claims.
2. Every word must be a number: ``1d3`` and ``0x10``, which SciPy reads as 1 and 0, are refused, as is a fourth column.
3. A symmetric file that gives an entry and its mirror image is refused, where SciPy adds the two.
4. SciPy 1.17 ends the process with a segmentation fault if the last byte is a carriage return, as in a file with
   Windows line ends that lost its last byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from deepcd.data.files import UnusableError

CHUNK = 1 << 18  # number of bytes of text that are turned into numbers at a time
MAX_HEADER = 1 << 20  # largest number of bytes of comments
MAX_TOKEN = 256  # largest average number of bytes per number with the space around it; seventeen digits take 25
# Largest ratio of a text to its compressed form: lists of distinct entries reach 15, one entry repeated reaches 500.
MAX_RATIO = 50
FIELDS = ("real", "double", "integer", "unsigned-integer")


class Header(NamedTuple):
    """What a Matrix Market file says it holds."""

    dense: bool  # "array": every entry of the matrix, column by column; otherwise triples of row, column and value
    symmetric: bool  # whether only the lower triangle is stored
    shape: tuple[int, int]
    entries: int  # number of stored entries


def read_header(stream: BinaryIO) -> Header:
    """Read the banner, the comments and the line of sizes, which is not checked against anything.

    Parameters
    ----------
    stream : binary stream
        A stream at its start; it is left where the entries begin.

    Returns
    -------
    Header

    Raises
    ------
    UnusableError
        If this is not the header of a real matrix.
    """
    banner = stream.readline(256).decode("latin-1").split()
    if len(banner) != 5 or banner[0].lower() != "%%matrixmarket" or banner[1].lower() != "matrix":
        example = "%%MatrixMarket matrix coordinate real general"
        raise UnusableError(f'is not a Matrix Market file: it does not begin with a line as "{example}"')
    form, field, symmetry = (word.lower() for word in banner[2:])
    if field in ("complex", "pattern"):
        what = "complex numbers" if field == "complex" else "the pattern of a matrix without its values"
        raise UnusableError(f"must be real, but holds {what}")
    if symmetry == "skew-symmetric":
        raise UnusableError("is skew-symmetric, so never positive definite; give a symmetric matrix")
    if (
        form not in ("array", "coordinate")
        or field not in FIELDS
        or symmetry not in ("general", "symmetric", "hermitian")
    ):
        raise UnusableError(f"is not a Matrix Market file: its kind is {' '.join(banner[2:])!r}")
    left = MAX_HEADER
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line or not left:
            raise UnusableError(
                "is not a Matrix Market file: no line with its sizes follows the first, or none in 1 MiB"
            )
        if line.strip() and not line.lstrip().startswith(b"%"):
            break
    sizes = line.split()
    if len(sizes) != (2 if form == "array" else 3) or not all(size.isdigit() and len(size) < 19 for size in sizes):
        names = "rows and columns" if form == "array" else "rows, columns and entries"
        raise UnusableError(f"is not a Matrix Market file: expected the numbers of {names}, got {line[:60]!r}")
    rows, columns, *stored = map(int, sizes)
    symmetric = symmetry != "general"
    if symmetric and rows != columns:
        raise UnusableError(f"is not a Matrix Market file: it is symmetric, but of shape {(rows, columns)}")
    count = stored[0] if stored else rows * (rows + 1) // 2 if symmetric else rows * columns
    return Header(form == "array", symmetric, (rows, columns), count)


def read_entries(stream: BinaryIO, header: Header, size: int) -> NDArray[np.float64] | csr_array:
    """Read the entries that follow a header.

    Parameters
    ----------
    stream : binary stream
        The stream as `read_header` left it.
    header : Header
        What `read_header` returned; the caller must be ready to allocate 8 bytes per row.
    size : int
        Size of the file on disk in bytes, compressed or not.

    Returns
    -------
    ndarray or csr_array of float64, of the header's shape
        Entries that are given more than once are summed, as in SciPy.

    Raises
    ------
    UnusableError
        If there are more or fewer entries than the header says, one is not a number, or an index is out of bounds.
    """
    if header.dense:
        return _dense(header, list(_counted(_numbers(stream), header.entries)))
    return _sparse(header, _counted(_triples(_numbers(stream, MAX_RATIO * size)), header.entries))


def _dense(header: Header, pieces: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Arrange the entries of a dense matrix, which are given column by column."""
    values = np.concatenate(pieces)
    if not header.symmetric:
        return values.reshape(header.shape, order="F")
    upper = np.zeros(header.shape)
    upper[np.triu_indices(header.shape[0])] = values
    return upper + np.triu(upper, 1).T


def _sparse(header: Header, pieces: Iterator[NDArray[np.float64]]) -> csr_array:
    """Build a matrix from its triples, piece by piece, since indices take less memory than numbers."""
    rows, columns = header.shape
    dtype = np.int32 if max(header.shape) < 2**31 else np.int64
    parts = [
        (
            _indices(p[:, 0], "row", rows).astype(dtype),
            _indices(p[:, 1], "column", columns).astype(dtype),
            p[:, 2].copy(),
        )
        for p in pieces
    ]
    row, column, value = map(np.concatenate, zip(*parts, strict=True))
    del parts
    if header.symmetric:
        mirrored = row != column
        row, column = np.concatenate([row, column[mirrored]]), np.concatenate([column, row[mirrored]])
        value = np.concatenate([value, value[mirrored]])
    A = csr_array(coo_array((value, (row, column)), shape=header.shape))
    if header.symmetric and A.nnz < len(value):
        raise UnusableError(
            "is symmetric, but gives an entry twice or above and below the diagonal; give the lower one"
        )
    return A


def _counted(pieces: Iterator[NDArray[np.float64]], entries: int) -> Iterator[NDArray[np.float64]]:
    """Pass pieces on as long as they hold no more entries than claimed, and refuse to end with fewer."""
    found = 0
    for piece in pieces:
        found += len(piece)
        if found > entries:
            raise UnusableError(f"is damaged: it holds more than the {entries} entries that its header claims")
        yield piece
    if found < entries:
        raise UnusableError(f"is truncated: it holds {found} of the {entries} entries that its header claims")


def _triples(numbers: Iterator[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """Group numbers into threes: row, column and value."""
    rest = np.zeros(0)
    for piece in numbers:
        joined = np.concatenate([rest, piece])
        whole = len(joined) // 3 * 3
        yield joined[:whole].reshape(-1, 3)
        rest = joined[whole:]
    if len(rest):
        raise UnusableError("is truncated: its last entry is not a row, a column and a value")


def _indices(index: NDArray[np.float64], name: str, most: int) -> NDArray[np.float64]:
    """Check indices that count from 1 and return them counted from 0."""
    good = (index >= 1) & (index <= most) & (index == np.floor(index))
    if not good.all():
        raise UnusableError(f"is damaged: {name} {index[np.argmin(good)]:g} is not one of 1 to {most}")
    return index - 1


def _numbers(stream: BinaryIO, most: float = np.inf) -> Iterator[NDArray[np.float64]]:
    """Read numbers in pieces; refuse text of much more than `most` bytes, or of hardly anything but space."""
    rest, total, found = b"", 0, 0
    while text := stream.read(CHUNK):
        total += len(text)
        if total > most + CHUNK:
            raise UnusableError(
                f"swells to more than {MAX_RATIO} times its size, which no list of distinct entries does"
            )
        if b"_" in text:  # a digit separator to Python, which converts the words
            raise UnusableError("is damaged: an underscore stands among the numbers")
        words = (rest + text).split()
        rest = words.pop() if words and not text[-1:].isspace() else b""  # it may go on in the next piece
        found += len(words)
        if total > MAX_TOKEN * found + 2 * CHUNK:
            raise UnusableError(f"is damaged: {total} bytes hold no more than {found} numbers")
        yield _parse(words)
    yield _parse([rest] if rest else [])


def _parse(words: list[bytes]) -> NDArray[np.float64]:
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError as error:
        raise UnusableError(f"is damaged: {str(error)[:100]}") from error
