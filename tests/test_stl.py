"""STL in the forms that programs write: read to the same triangles, or refused with the place and the reason."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from deepcd.pde import box_mesh
from deepcd.pde.stl import StlError, triangles_of_stl

CUBE = box_mesh((-1, -1, -1), (1, 1, 1))
CORNERS = CUBE.vertices[CUBE.triangles]


def text(corners: np.ndarray = CORNERS, end: str = "endloop", name: str = "box") -> str:
    lines = [f"solid {name}"]
    for triangle in corners:
        lines += ["facet normal 0 nan 1,0", "outer loop"]
        lines += [f"vertex {' '.join(map(str, corner))}" for corner in triangle.tolist()]
        lines += [end, "endfacet"]
    return "\n".join([*lines, f"endsolid {name}\n"])


def binary(corners: np.ndarray = CORNERS, head: bytes = b"", count: int | None = None, extra: bytes = b"") -> bytes:
    records = b"".join(struct.pack("<12fH", 0, 0, 0, *corner.ravel(), 7) for corner in corners)
    return head.ljust(80, b" ") + struct.pack("<I", len(corners) if count is None else count) + records + extra


FORMS = {
    "plain": text().encode(),
    "capitals": text().upper().replace("E+", "D+").encode(),
    "CRLF": text().replace("\n", "\r\n").encode(),
    "CR": text().replace("\n", "\r").encode(),
    "blank lines": ("\n" + text() + "\n\n").replace("\n", "\n \t\n").encode(),
    "comments": b"# one\n; two\n// three\n" + text().replace("endfacet\n", "endfacet ; vertex 1\n# c\n").encode(),
    "two words": text(end="end loop").replace("endfacet", "end facet").replace("endsolid", "end solid").encode(),
    "Ctrl-Z": text().encode() + b"\x1a",
    "padded": text().encode() + bytes(100),
    "no last line": text().rsplit("endsolid", 1)[0].encode(),
    "no first line": text().split("\n", 1)[1].encode(),
    "one line each": text()
    .replace("\nouter", " outer")
    .replace("\nvertex", " vertex")
    .replace("\nend", " end")
    .encode(),
    "Fortran": text().replace("1.0", "0.1D+01").encode(),
    "a name": text(name="my vertex facet part 7 caf\xe9").encode("latin-1"),
    "BOM": text().encode("utf-8-sig"),
    "UTF-16": text().encode("utf-16"),
    "solids": (text(CORNERS[:5]) + text(CORNERS[5:], name="")).encode(),
    "joined": text(CORNERS[:5]).encode() + b"\x1a\n" + text(CORNERS[5:]).encode(),
    "binary": binary(),
    "binary, solid": binary(head=b"solid facet normal"),
    "binary, padded": binary(extra=bytes(50)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FORMS)
def test_what_is_read(name: str) -> None:
    np.testing.assert_array_equal(triangles_of_stl(FORMS[name], "a.stl"), CORNERS)


@pytest.mark.parametrize("head", [b"", b"solid facet"])
def test_wrong_counts(head: bytes) -> None:
    """Where the length is that of whole triangles, all of them are read."""
    for count in (0, 5, 110250586):
        said = (
            rf"a.stl: has a wrong count: it claims {count} triangles, which take {84 + 50 * count} bytes, and has 684"
        )
        with pytest.warns(UserWarning, match=said):
            np.testing.assert_array_equal(triangles_of_stl(binary(head=head, count=count), "a.stl"), CORNERS)
    with pytest.warns(UserWarning, match=r"a.stl: has 37 bytes left over"):
        np.testing.assert_array_equal(triangles_of_stl(binary(head=head, extra=b"x" * 37), "a.stl"), CORNERS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello", "5 bytes are neither a text"),
        (b"hello\n" * 99, "is no STL file, or cut off: it claims 175074412 triangles"),
        (binary()[:-7], "it claims 12 triangles, which take 684 bytes, and has 677 bytes, the room of 11"),
        (text().replace("1.0", "1,0").encode(), "is damaged in line 4, 'vertex -1,0 -1,0 -1,0': a vertex has three"),
        (text().replace("vertex -1.0 ", "vertex ", 1).encode(), "line 4, 'vertex -1.0 -1.0': a vertex has three"),
        (text().replace("vertex -1.0", "vertex 1_0", 1).encode(), "line 4, 'vertex 1_0"),
        (text().replace("vertex", "vertex 0", 1).encode(), "is not expected there"),
        (text().replace("outer", "vortex\n# c\nouter", 1).encode(), "line 3, 'vortex': 'vortex' is not expected"),
        (text().replace("vertex", "vertex 0 0 0 vertex", 1).encode(), "line 7: the facet before it has 4 vertices"),
        (text().rsplit("vertex", 1)[0].encode(), "is cut off: its last facet has 2 vertices"),
    ],
)  # fmt: skip
def test_what_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(StlError) as caught:
        triangles_of_stl(content, "a.stl")
    assert says in str(caught.value)


def test_nothing_in_it() -> None:
    for content in (b"solid a\nendsolid a", binary(CORNERS[:0])):
        assert triangles_of_stl(content, "a.stl").shape == (0, 3, 3)
