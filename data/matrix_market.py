"""Read Matrix Market files in such a way that false claims in a file cost no more memory than its own size.

The format is that of Boisvert, Pozo, Remington, "The Matrix Market Exchange Formats: Initial Design" (NIST IR 5935,
1996). Differences from `scipy.io.mmread`:

1. Memory is allocated for the numbers that were found, not for those that the header claims.
2. Every word must be a number: ``0x10`` and ``-1,5``, which SciPy reads as 0 and -1, are refused with their line, as is
   a fourth column. Exponents of Fortran count: ``1.5D3`` is 1500, where SciPy takes the 1.5 and leaves the rest.
3. Comments may stand anywhere, also after the entries, and a byte order mark before the banner.
4. SciPy 1.17 ends the process with a segmentation fault if the last byte is a blank or a carriage return, as in a file
   with Windows line ends that lost its last byte, and it fills up a dense symmetric matrix that is cut off.
"""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from deepcd.data.files import UnusableError

CHUNK = 1 << 18  # number of bytes of text that are turned into numbers at a time
MAX_HEADER = 1 << 20  # largest number of bytes of comments
MAX_TOKEN = 256  # largest average number of bytes per number with the space around it; seventeen digits take 25
# Largest ratio of a text to its compressed form: lists of distinct entries reach 15, one entry repeated reaches 500.
MAX_RATIO = 50
FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
BANNERS = ("%%matrixmarket", "%matrixmarket")
COMMENT = re.compile(rb"%[^\n]*")


class _WordError(Exception):
    """Something is wrong with one of the numbers of a file, which are counted from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Header(NamedTuple):
    """What a Matrix Market file says it holds."""

    dense: bool  # "array": every entry of the matrix, column by column; otherwise triples of row, column and value
    symmetric: bool  # whether an entry stands for its mirror image, too
    pattern: bool  # whether only the places of entries are given, all of which are 1
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
    first = stream.readline(256)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnusableError("is text of two bytes per character (UTF-16); save it as ASCII or UTF-8")
    banner = first.removeprefix(codecs.BOM_UTF8).decode("latin-1").split()
    if len(banner) < 5 or banner[0].lower() not in BANNERS or banner[1].lower() != "matrix":
        example = "%%MatrixMarket matrix coordinate real general"
        raise UnusableError(f'is not a Matrix Market file: it does not begin with a line as "{example}"')
    form, field, symmetry = (word.lower() for word in banner[2:5])
    if field == "complex":
        raise UnusableError("must be real, but holds complex numbers")
    if symmetry == "skew-symmetric":
        raise UnusableError("is skew-symmetric, so never positive definite; give a symmetric matrix")
    if (
        form not in ("array", "coordinate")
        or field not in FIELDS
        or symmetry not in ("general", "symmetric", "hermitian")
        or (form == "array" and field == "pattern")
    ):
        raise UnusableError(f"is not a Matrix Market file: its kind is {' '.join(banner[2:5])!r}")
    left, number = MAX_HEADER, 1
    while True:
        line = stream.readline(left)
        left -= len(line)
        number += 1
        if not line or not left:
            raise UnusableError(
                "is not a Matrix Market file: no line with its sizes follows the first, or none in 1 MiB"
            )
        if line.strip() and not line.lstrip().startswith(b"%"):
            break
    sizes = COMMENT.sub(b"", line).split()
    if len(sizes) != (2 if form == "array" else 3) or not all(size.isdigit() and len(size) < 19 for size in sizes):
        names = "rows and columns" if form == "array" else "rows, columns and entries"
        got = line[:60].decode("latin-1").strip()
        raise UnusableError(f"is damaged in line {number}: expected the numbers of {names}, got {got!r}")
    rows, columns, *stored = map(int, sizes)
    symmetric = symmetry != "general"
    if symmetric and rows != columns:
        raise UnusableError(f"is not a Matrix Market file: it is symmetric, but of shape {(rows, columns)}")
    count = stored[0] if stored else rows * (rows + 1) // 2 if symmetric else rows * columns
    return Header(form == "array", symmetric, field == "pattern", (rows, columns), count)


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
        Those of a symmetric file are mirrored, then entries that are given more than once are summed, as in SciPy.

    Raises
    ------
    UnusableError
        If there are more or fewer entries than the header says, one is not a number, or an index is out of bounds. The
        message gives the line.

    Warns
    -----
    UserWarning
        If a symmetric file gives entries above and below the diagonal that are mirror images, so that they are summed.
    """
    start, width = stream.tell(), 1 if header.dense else 2 if header.pattern else 3
    try:
        if header.dense:
            return _dense(header, list(_counted(_grouped(_numbers(stream), width), header.entries)))
        return _sparse(header, _counted(_grouped(_numbers(stream, MAX_RATIO * size), width), header.entries))
    except _WordError as error:
        number, line = _line(stream, start, error.index)
        words = len(COMMENT.sub(b"", line).split())
        hint = "" if words == width else f" (an entry has {width} numbers, this line {words})"
        text = line[:60].decode("latin-1").strip()
        raise UnusableError(f"is damaged in line {number}, {text!r}: {error}{hint}") from error


def _dense(header: Header, pieces: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Arrange the entries of a dense matrix, which are given column by column."""
    values = np.concatenate(pieces)[:, 0]
    if not header.symmetric:
        return values.reshape(header.shape, order="F")
    upper = np.zeros(header.shape)
    upper[np.triu_indices(header.shape[0])] = values
    return upper + np.triu(upper, 1).T


def _sparse(header: Header, pieces: Iterator[NDArray[np.float64]]) -> csr_array:
    """Build a matrix from its triples, piece by piece, since indices take less memory than numbers."""
    rows, columns = header.shape
    dtype = np.int32 if max(header.shape) < 2**31 else np.int64
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]] = []
    done = 0
    for p in pieces:
        row = _indices(p, 0, "row", rows, done).astype(dtype)
        column = _indices(p, 1, "column", columns, done).astype(dtype)
        parts.append((row, column, np.ones(len(p)) if header.pattern else p[:, 2].copy()))
        done += len(p)
    row, column, value = (np.concatenate([part[i] for part in parts]) for i in range(3))
    del parts
    both = header.symmetric and bool(np.less(row, column).any() and np.greater(row, column).any())
    if header.symmetric:
        mirrored = row != column
        row, column = np.concatenate([row, column[mirrored]]), np.concatenate([column, row[mirrored]])
        value = np.concatenate([value, value[mirrored]])
    A = csr_array(coo_array((value, (row, column)), shape=header.shape))
    if both and A.nnz < len(value):
        twice = (
            "the matrix is symmetric, but its file gives entries above and below the diagonal, which have been summed"
        )
        warnings.warn(f"{twice}; give one triangle, or call it general", stacklevel=2)
    return A


def _counted(pieces: Iterator[NDArray[np.float64]], entries: int) -> Iterator[NDArray[np.float64]]:
    """Pass pieces on as long as they hold no more entries than claimed, and refuse to end with fewer."""
    found = 0
    for piece in pieces:
        found += len(piece)
        if found > entries:
            raise _WordError(
                entries * piece.shape[1], f"there are more than the {entries} entries that its header claims"
            )
        yield piece
    if found < entries:
        raise UnusableError(f"is truncated: it holds {found} of the {entries} entries that its header claims")


def _grouped(numbers: Iterator[NDArray[np.float64]], width: int) -> Iterator[NDArray[np.float64]]:
    """Group numbers into entries: row, column and value, or fewer, according to the kind of file."""
    rest = np.zeros(0)
    for piece in numbers:
        joined = np.concatenate([rest, piece])
        whole = len(joined) // width * width
        yield joined[:whole].reshape(-1, width)
        rest = joined[whole:]
    if len(rest):
        names = "a row and a column" if width == 2 else "a row, a column and a value"
        raise UnusableError(f"is truncated: its last entry is not {names}")


def _indices(entries: NDArray[np.float64], at: int, name: str, most: int, before: int) -> NDArray[np.float64]:
    """Check indices that count from 1 and return them counted from 0; `before` entries came before these."""
    index = entries[:, at]
    good = (index >= 1) & (index <= most) & (index == np.floor(index))
    if not good.all():
        wrong = int(np.argmin(good))
        reason = f"{name} {index[wrong]:g} is not one of 1 to {most}"
        raise _WordError((before + wrong) * entries.shape[1] + at, reason)
    return index - 1


def _numbers(stream: BinaryIO, most: float = np.inf) -> Iterator[NDArray[np.float64]]:
    """Read numbers in pieces; refuse text of much more than `most` bytes, or of hardly anything but space."""
    rest, total, found, in_comment = b"", 0, 0, False
    while text := stream.read(CHUNK):
        total += len(text)
        if total > most + CHUNK:
            raise UnusableError(
                f"swells to more than {MAX_RATIO} times its size, which no list of distinct entries does"
            )
        if in_comment or b"%" in text:  # a comment may go on in the next piece
            text = b"%" * in_comment + text
            in_comment = text.rfind(b"%") > text.rfind(b"\n")
            text = COMMENT.sub(b" ", text)
        words = (rest + text).split()
        rest = words.pop() if words and not text[-1:].isspace() else b""  # it may go on in the next piece
        if total > MAX_TOKEN * (found + len(words)) + 2 * CHUNK:
            raise UnusableError(f"is damaged: {total} bytes hold no more than {found + len(words)} numbers")
        yield _parse(words, found)
        found += len(words)
    yield _parse([rest] if rest else [], found)


def _parse(words: list[bytes], before: int) -> NDArray[np.float64]:
    """Convert words to numbers; `before` words came before these."""
    try:
        numbers = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:  # perhaps of exponents as Fortran writes them
        numbers = np.array([_number(word, before + i) for i, word in enumerate(words)])
    if b"_" in b" ".join(words):  # a digit separator to Python
        wrong = next(i for i, word in enumerate(words) if b"_" in word)
        raise _WordError(
            before + wrong, f"{words[wrong][:40].decode('latin-1')!r} is not a number: it has an underscore"
        )
    return numbers


def _number(word: bytes, index: int) -> float:
    try:
        return float(re.sub(rb"[dD](?=[-+]?\d+$)", b"e", word))
    except ValueError:
        raise _WordError(index, f"{word[:40].decode('latin-1')!r} is not a number") from None


def _line(stream: BinaryIO, start: int, index: int) -> tuple[int, bytes]:
    """Find the line, counted from 1, of the number `index` of those that begin at byte `start`, and its text."""
    stream.seek(0)
    number, position, found, line = 1, 0, 0, b""
    while piece := stream.readline(CHUNK):
        position += len(piece)
        if position > start:
            found += len(COMMENT.sub(b"", piece).split())
        if found > index:
            line = piece
            break
        number += piece.endswith(b"\n")
    return number, line
