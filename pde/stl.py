"""Triangles from STL files, text or binary, in the forms that common viewers read.

The text form is that of 3D Systems (StereoLithography Interface Specification, 1989), read word by word: capitals,
blank lines, comments, several solids and a missing last line do no harm. The binary form has a header of 80 bytes, the
number of triangles, and 50 bytes for each; a header may begin with "solid" as text does.
"""

from __future__ import annotations

import codecs
import re
import warnings

import numpy as np
from numpy.typing import NDArray

HEADER = 84  # bytes before the first triangle of a binary file, its number of triangles included
RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
PADDING = b"\x1a\0 \t\r\n"  # what may stand at the end of any file, Ctrl-Z among it
TEXT = re.compile(rb"(?:\s|(?:[#;]|//)[^\r\n]*)*(?:solid|facet)\b", re.IGNORECASE)
COMMENT = re.compile(r"(?:[#;]|//)[^\n]*")
STRUCTURE = {"solid", "facet", "outer", "loop", "endloop", "endfacet", "endsolid", "end"}


class StlError(ValueError):
    """The content of an STL file cannot be used."""


def triangles_of_stl(content: bytes, name: str) -> NDArray[np.float64]:
    """Return the corners of all triangles, those of every solid in the file.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        Name of the file in warnings.

    Returns
    -------
    ndarray of float64, shape (m, 3, 3)
        Triangle, corner, axis; there may be none. Normals and attributes are left out.

    Raises
    ------
    StlError
        If this is no STL file; of a text the message gives the line.

    Warns
    -----
    UserWarning
        If a binary file claims another number of triangles than it holds, or if more than padding follows them.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    exact = len(content) >= HEADER and len(content) == HEADER + RECORD.itemsize * _claimed(content)
    if not exact and TEXT.match(content) and b"\0" not in content.rstrip(PADDING):
        return _from_text(content.rstrip(PADDING).decode("latin-1"))
    return _from_binary(content, name)


def _claimed(content: bytes) -> int:
    return int.from_bytes(content[HEADER - 4 : HEADER], "little")


def _from_binary(content: bytes, name: str) -> NDArray[np.float64]:
    size = len(content)
    if size < HEADER:
        what = (
            f'{size} bytes are neither a text that begins with "solid" nor a binary file, whose header takes {HEADER}'
        )
        raise StlError(f"is no STL file: its {what}" if size else "is empty")
    claimed, (held, rest) = _claimed(content), divmod(size - HEADER, RECORD.itemsize)
    said = f"it claims {claimed} triangles, which take {HEADER + RECORD.itemsize * claimed} bytes, and has {size} bytes"
    used, extra = claimed, content[HEADER + RECORD.itemsize * claimed :].strip(PADDING)
    if rest == 0 and claimed != held and (extra or claimed > held):
        warnings.warn(f"{name}: has a wrong count: {said}; all {held} that it holds are read", stacklevel=4)
        used = held
    elif claimed > held:
        raise StlError(f"is no STL file, or cut off: {said}, the room of {held}")
    elif extra:
        warnings.warn(f"{name}: has {len(extra)} bytes left over: {said}; they are left out", stacklevel=4)
    return np.frombuffer(content, RECORD, used, HEADER)["corners"].astype(np.float64)


def _from_text(text: str) -> NDArray[np.float64]:
    corners: list[list[float]] = []
    since = 0  # corners since the last other keyword
    lines = COMMENT.sub("", re.sub("\r\n?", "\n", text).replace("\x1a", " ")).split("\n")
    for number, line in enumerate(lines, 1):
        words, at, normal = line.lower().split(), 0, False
        while at < len(words):
            word, at = words[at], at + 1
            if word == "vertex":
                corners.append(_point(words[at : at + 3], number, line))
                since, at = since + 1, at + 3
            elif word in STRUCTURE:
                if since not in (0, 3):
                    raise StlError(
                        f"is damaged in line {number}: the facet before it has {since} vertices instead of 3"
                    )
                since, normal = 0, word == "facet"
                if "solid" in word:  # its name follows
                    break
            elif not normal:  # of which nothing is used
                raise StlError(
                    f"is damaged in line {number}, {line.strip()[:60]!r}: {word[:20]!r} is not expected there"
                )
    if since not in (0, 3):
        raise StlError(f"is cut off: its last facet has {since} vertices instead of 3")
    return np.array(corners, dtype=np.float64).reshape(-1, 3, 3)


def _point(words: list[str], number: int, line: str) -> list[float]:
    try:
        if len(words) < 3 or "_" in "".join(words):  # a digit separator to Python
            raise ValueError
        return [float(word.replace("d", "e")) for word in words]  # exponents as Fortran writes them
    except ValueError:
        wanted = "a vertex has three numbers, with a point before their decimals"
        raise StlError(f"is damaged in line {number}, {line.strip()[:60]!r}: {wanted}") from None
