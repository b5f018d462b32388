"""Matrix and vector files: what SciPy and NumPy write is read back; everything else is refused, and costs no more."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import bsr_array, coo_array, csc_array, csr_array, csr_matrix, diags_array, random_array, save_npz

from deepcd.data.matrix_files import MatrixFileError, read_matrix, read_vector

BANNER = b"%%MatrixMarket matrix coordinate real general\n"
FORMATS = ("csr", "csc", "coo", "bsr", "dia")


def symmetric(n: int = 12) -> csr_array:
    A = random_array((n, n), density=0.2, rng=np.random.default_rng(0))
    return csr_array(A + A.T + 3 * diags_array(np.ones(n)))


def written(write: Callable[[Any], Any]) -> bytes:
    """What a writer of files writes."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def market(A: Any, **options: Any) -> bytes:
    return written(lambda stream: scipy.io.mmwrite(stream, A, precision=17, **options))


def npy(array: Any) -> bytes:
    return written(lambda stream: np.save(stream, array))


def npz(A: Any, *, compressed: bool = True) -> bytes:
    return written(lambda stream: save_npz(stream, A, compressed=compressed))


def archive(content: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An .npz of arrays, or of what stands in their place."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as target:
        for name, member in content.items():
            target.writestr(f"{name}.npy", member if isinstance(member, bytes) else npy(member))
    return stream.getvalue()


def members(form: bytes | str, **arrays: Any) -> dict[str, Any]:
    """What an archive holds, by default of shape (3, 3)."""
    return {"format": np.array(form), "shape": (3, 3)} | arrays


def refused(path: Path, content: bytes | None, *says: str, n: int | None = None, most: float = 8e6) -> None:
    """A file is refused with its name and the reason, and with little memory."""
    if content is not None:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(MatrixFileError) as caught:
            read_matrix(path) if n is None else read_vector(path, n)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 600
    for reason in says:
        assert reason in message


def assert_reads(path: Path, content: bytes, expected: Any) -> None:
    path.write_bytes(content)
    A = read_matrix(path)
    assert isinstance(A, csr_array)
    assert A.dtype == np.float64
    assert A.has_canonical_format
    np.testing.assert_array_equal(A.toarray(), csr_array(expected).toarray())


class TestWhatIsRead:
    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("compressed", [False, True])
    def test_archives(self, tmp_path: Path, form: str, compressed: bool) -> None:
        A = symmetric()
        assert_reads(tmp_path / "A.npz", npz(A.asformat(form), compressed=compressed), A)
        assert_reads(tmp_path / "A.npz", npz(csr_matrix(A).asformat(form), compressed=compressed), A)

    @pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">i8", "f2", ">f4", "f8", "g"])
    def test_every_real_type(self, tmp_path: Path, dtype: str) -> None:
        values = (np.arange(9) % 2).astype(dtype)
        data, index = values.reshape(3, 3), np.arange(3)
        content = archive(members(b"coo", shape=(9, 9), data=data[0], row=index, col=index.astype(">u2")))
        assert_reads(tmp_path / "A.npz", content, coo_array((data[0].astype(float), (index, index)), shape=(9, 9)))
        (tmp_path / "b.npy").write_bytes(npy(values))
        np.testing.assert_array_equal(read_vector(tmp_path / "b.npy", 9), values.astype(float), strict=True)

    @pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
    def test_indices_in_any_order(self, tmp_path: Path, form: str) -> None:
        compressed = {"csr": csr_array, "csc": csc_array, "bsr": bsr_array}[form]
        data = np.arange(1.0, 6.0).reshape(-1, 1, 1) if form == "bsr" else np.arange(1.0, 6.0)
        A = compressed((data, [2, 0, 0, 1, 1], [0, 2, 3, 5]), shape=(3, 3))
        expected = A.toarray()
        assert_reads(tmp_path / "A.npz", npz(A), expected)
        assert expected.max() == 9, "an entry that is given twice"

    def test_coordinates_in_one_member(self, tmp_path: Path) -> None:
        content = archive(members(b"coo", data=[1.0, 2.0], coords=[[0, 2], [1, 1]]))
        assert_reads(tmp_path / "A.npz", content, [[0, 1, 0], [0, 0, 0], [0, 2, 0]])

    @pytest.mark.parametrize("symmetry", ["general", "symmetric"])
    @pytest.mark.parametrize("dense", [False, True])
    def test_matrix_market(self, tmp_path: Path, symmetry: str, dense: bool) -> None:
        A = symmetric()
        content = market(A.toarray() if dense else A, symmetry=symmetry)
        assert_reads(tmp_path / "A.mtx", content, A)
        assert_reads(tmp_path / "A.mtx", content.replace(b"\n", b"\r\n"), A)
        assert_reads(tmp_path / "A.mtx.gz", gzip.compress(content), A)
        assert_reads(tmp_path / "A.mtx.gz", gzip.compress(content[:99]) + gzip.compress(content[99:]), A)

    def test_pieces_may_end_anywhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        A = symmetric()
        for chunk in (1, 2, 7, 64):
            monkeypatch.setattr("deepcd.data.matrix_market.CHUNK", chunk)
            assert_reads(tmp_path / "A.mtx", market(A), A)
            commented = b" % 12 1 1 % 3\n".join(market(A).split(b"\n"))
            assert_reads(tmp_path / "A.mtx", commented, A)

    @pytest.mark.parametrize(
        "content",
        [
            b"%%matrixmarket MATRIX Coordinate Double GENERAL\n%\n % c\n\n 2\t2 3\n\n1 1 2\n 2 1 -1.5e0\n\n2 2 +2.",
            b"%%MatrixMarket matrix coordinate integer general\r\n%\r\n2 2 4\r\n1 1 2\r\n2 1 -1\r\n2 2 2\r\n2 1 -.5\r",
            b"%%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 2 2 1 -1.5\n2 2\n2\n",
            b"%%MatrixMarket matrix array real general\n2 2\n2\n-1.5\n0\n2\n",
            b"\xef\xbb\xbf%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 .2D1\n%\xe9\n2 1 -15.d-1\n2 2 2D0%1",
        ],
    )
    def test_liberties_of_other_writers(self, tmp_path: Path, content: bytes) -> None:
        assert_reads(tmp_path / "A.mtx", content, [[2, 0], [-1.5, 2]])

    def test_patterns(self, tmp_path: Path) -> None:
        banner = BANNER.replace(b"real general", b"pattern symmetric")
        assert_reads(tmp_path / "A.MTX", banner + b"2 2 2\n1 1\n2 1\n", [[1, 1], [1, 0]])

    @pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5)])
    def test_vectors(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        b = np.array([0.1, 0, -2, 1e300, 5]).reshape(shape)
        files = {"b.npy": npy(b), "f.npy": npy(np.asfortranarray(b))}
        if b.ndim == 2:
            files |= {"d.mtx": market(b), "s.mtx": market(coo_array(b)), "z.mtx.gz": gzip.compress(market(b))}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            np.testing.assert_array_equal(read_vector(tmp_path / name, 5), b.ravel(), strict=True)

    def test_what_is_not_finite_is_left_to_the_solver(self, tmp_path: Path) -> None:
        assert_reads(
            tmp_path / "A.mtx", BANNER + b"2 2 3\n1 1 nan\n2 2 -inf\n1 2 1e999", [[np.nan, np.inf], [0, -np.inf]]
        )

    def test_rows_without_entries_are_few_or_in_proportion(self, tmp_path: Path) -> None:
        path = tmp_path / "A.mtx"
        path.write_bytes(BANNER + b"1048576 1048576 1\n1 1 1\n")
        assert read_matrix(path).shape == (1 << 20, 1 << 20)
        refused(path, BANNER + b"1048577 1048577 1\n1 1 1\n", "claims 1048577 rows, but only 1 entries")


class TestSizes:
    """What a header claims costs nothing until the file has shown that it holds it."""

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (BANNER + b"9 9 1000000000000\n1 1 1\n", "holds 1 of the 1000000000000 entries"),
            (BANNER + b"1000000000000 1000000000000 3\n1 1 1\n2 2 1\n3 3 1\n", "claims 1000000000000 rows"),
            (BANNER + b"100000000000 100000000000 100000000000\n1 1 1\n", "holds 1 of the"),
            (BANNER + b"99999999999999999999 1 1\n", "expected the numbers of rows"),
            (BANNER + b"9223372036854775808 1 1\n", "expected the numbers of rows"),
            (BANNER + b"-2 -2 1\n1 1 1\n", "expected the numbers of rows"),
            (BANNER + b"2 2 -1\n1 1 1\n", "expected the numbers of rows"),
            (BANNER + b"2 2 1.5\n1 1 1\n", "expected the numbers of rows"),
            (BANNER + b"2 2\n1 1 1\n", "expected the numbers of rows"),
            (BANNER + b"2 2 1\n", "truncated"),
            (BANNER + b"2 2 1\n1 1 1\n1 1 1\n", "more than the 1 entries"),
            (BANNER.replace(b"coordinate", b"array") + b"100000 100000\n1\n", "holds 1 of the 10000000000 entries"),
            (BANNER.replace(b"coordinate", b"array") + b"2 2 4\n1\n", "numbers of rows and columns"),
            (BANNER + b"%" * (1 << 21), "no line with its sizes"),
            (BANNER + b"%%%%%%%\n" * (1 << 17), "no line with its sizes"),
            (b"%%MatrixMarket matrix" + b" " * (1 << 21), "does not begin with a line"),
            (BANNER + b"2 2 9999\n1 1 1\n" + b" " * (1 << 22), "bytes hold no more than"),
            (BANNER + b"2 2 9999\n1 1 " + b"1" * (1 << 22), "bytes hold no more than"),
        ],
        ids=lambda value: value[:30] if isinstance(value, str) else "",
    )
    def test_matrix_market(self, tmp_path: Path, content: bytes, says: str) -> None:
        refused(tmp_path / "A.mtx", content, says)
        refused(tmp_path / "A.mtx.gz", gzip.compress(content))

    def test_gzip_bombs(self, tmp_path: Path) -> None:
        """A gigabyte, were it unpacked."""
        path = tmp_path / "A.mtx.gz"
        with gzip.open(path, "wb", compresslevel=9) as stream:
            stream.write(BANNER)
            stream.write(b"%" * (1 << 22))
        swollen = gzip.compress(bytes(1 << 22), 9) * 250
        refused(path, path.read_bytes() + swollen, "no line with its sizes")
        refused(
            path, gzip.compress(BANNER + b"2 2 999\n") + gzip.compress(b"\n" * (1 << 22)) * 250, "hold no more than"
        )
        entries = gzip.compress(b"1 1 1\n" * (1 << 17)) * 300
        refused(
            path, gzip.compress(BANNER + b"20000 20000 39321600\n") + entries, "swells to more", most=200 * len(entries)
        )
        refused(path, gzip.compress(BANNER + b"2 2 2\n") + entries, "more than the 2 entries", most=3e7)
        path = tmp_path / "b.mtx.gz"
        content = (
            gzip.compress(BANNER.replace(b"coordinate", b"array") + b"4 1\n") + gzip.compress(b"1\n" * (1 << 20)) * 99
        )
        refused(path, content, "more than the 4 entries", n=4, most=3e7)
        refused(path, content, "b must have the 5 entries", n=5)

    def test_arrays(self, tmp_path: Path) -> None:
        path = tmp_path / "b.npy"
        good = npy(np.ones(1000))
        for old, new, says in (
            (b"(1000,)", b"(9**9,)", "is not an array"),
            (b"(1000,)", b"(1001,)", "b must have the 1000 entries"),
            (b"(1000,)", b"(-999,)", "b must have the 1000 entries"),
            (b"'<f8'", b"'<i4'", "describes 4000 bytes of data, it holds 8000"),
            (b"'<f8'", b"'O'  ", "pickled objects"),
            (b"'<f8'", b"'\\f8'", "a backslash stands in its header"),
            (b"'<f8'", b"'V8' ", "must be real"),
            (b"'<f8'", b"'M8' ", "must be real"),
        ):
            refused(path, good.replace(old, new), says, n=1000)
        huge = good.replace(b"(1000,)", b"(10**9)").replace(b"(10**9)", b"(9e9,) ")
        refused(path, huge, "is not an array", n=1000)
        claimed = good.replace(b"(1000,), }        ", b"(100000000000,), }")
        refused(path, claimed, "describes 800000000000 bytes of data, it holds 8000", n=10**11)
        refused(path, b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "header of 4294967295 bytes", n=1000)
        refused(path, b"\x93NUMPY\x03\x00\xff\xff\xff\xff{", "is not an array", n=1000)
        refused(path, good + b"\0", "describes 8000 bytes of data, it holds 8001", n=1000)

    def test_members(self, tmp_path: Path) -> None:
        path, good = tmp_path / "A.npz", npz(csr_array(np.eye(3)))
        csr = members(b"csr", indices=np.arange(3), indptr=np.arange(4), data=np.ones(3))
        assert_reads(path, archive(csr), np.eye(3))
        claimed = npy(np.ones(3)).replace(b"(3,), }           ", b"(100000000000,), }")
        refused(path, archive(csr | {"data": claimed}), "describes 800000000000 bytes of data, it holds 24")
        refused(path, archive(csr | {"indices": claimed.replace(b"f8", b"i8")}), "describes 800000000000 bytes")
        refused(path, archive(csr, zipfile.ZIP_LZMA), "compressed by method 14")
        refused(path, archive(csr, zipfile.ZIP_BZIP2), "compressed by method 12")
        for field in (24, 20):  # the sizes in the directory: unpacked and packed
            content = bytearray(good)
            entry = content.rindex(b"PK\x01\x02")
            while entry >= 0:
                content[entry + field : entry + field + 4] = struct.pack("<I", 0xFFFFFFF0)
                entry = content.rfind(b"PK\x01\x02", 0, entry)
            refused(path, bytes(content), "claims", "more than the file can hold")
        for shape in ((10**12, 10**12), (2**63, 2**63), (-3, -3), (3, 4), (3,), (3, 3, 3), (0, 0)):
            refused(path, archive(csr | {"shape": np.array(shape, dtype=object if max(shape) > 2**64 else None)}))

    def test_a_limit_on_memory_is_kept(self, tmp_path: Path) -> None:
        """Claims that would kill the process if they were believed, in one that may take 100 MB more than it has."""
        claims = {
            "entries.mtx": BANNER + b"1000 1000 1000000000\n1 1 1\n",
            "rows.mtx": BANNER + b"1000000000 1000000000 3\n1 1 1\n",
            "dense.mtx": BANNER.replace(b"coordinate", b"array") + b"100000 100000\n1\n",
            "bomb.mtx.gz": gzip.compress(BANNER + b"9 9 999999999\n") + gzip.compress(b"1 1 1\n" * (1 << 17)) * 100,
            "data.npz": archive(
                members(b"csr", indices=np.arange(3), indptr=np.arange(4))
                | {"data": npy(np.ones(3)).replace(b"(3,), }           ", b"(100000000000,), }")}
            ),
        }
        for name, content in claims.items():
            (tmp_path / name).write_bytes(content)
        program = (
            "import resource, sys\n"
            "from deepcd.data.matrix_files import MatrixFileError, read_matrix\n"
            "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 100_000_000\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
            "for path in sys.argv[1:]:\n"
            "    try: read_matrix(path)\n"
            "    except MatrixFileError as error: assert 'does not fit' not in str(error); print('refused')\n"
        )
        command = [sys.executable, "-c", program, *(str(tmp_path / name) for name in claims)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        assert result.stdout.split() == ["refused"] * len(claims)


class TestContent:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (b"matrix", b"vector", "does not begin"),
            (b"%%Mat", b"%%%Mat", "does not begin"),
            (b"%%Mat", b"\xff\xfe%\0", "UTF-16"),
            (b"general", b"", "does not begin"),
            (b"coordinate", b"elemental", "its kind is 'elemental real general'"),
            (b"real", b"quaternion", "its kind is"),
            (b"general", b"lopsided", "its kind is"),
            (b"real", b"complex", "must be real, but holds complex numbers"),
            (
                b"real",
                b"pattern",
                "line 5, '2 2 2': there are more than the 3 entries that its header claims (an entry",
            ),
            (b"coordinate real", b"array pattern", "its kind is 'array pattern general'"),
            (b"general", b"skew-symmetric", "never positive definite"),
            (b"2 2 3", b"2 3 3", "must be square and not empty, got shape (2, 3)"),
            (b"2 2 3", b"0 0 0", "must be square and not empty"),
            (b"2 1 -1", b"3 1 -1", "is damaged in line 4, '3 1 -1': row 3 is not one of 1 to 2; give"),
            (b"2 1 -1", b"2 0 -1", "column 0 is not one of 1 to 2"),
            (b"2 1 -1", b"2 -1 -1", "column -1 is not"),
            (b"2 1 -1", b"2 18446744073709551617 -1", "column 1.84467e+19 is not"),
            (b"2 1 -1", b"1.5 1 -1", "row 1.5 is not"),
            (b"2 1 -1", b"nan 1 -1", "row nan is not"),
            (b"2 1 -1", b"2 1 -1d", "line 4, '2 1 -1d': '-1d' is not a number"),
            (b"2 1 -1", b"2 1 -1,5", "line 4, '2 1 -1,5': '-1,5' is not a number"),
            (b"2 1 -1", b"2 1 0x10", "'0x10' is not a number"),
            (b"2 1 -1", b"2 1 1.0.0", "'1.0.0' is not a number"),
            (b"2 1 -1", b"2 1 1_0", "'1_0' is not a number: it has an underscore"),
            (b"2 1 -1", b"% 7\n\n2 1 -1 % 8\n2 x -1", "line 7, '2 x -1': 'x' is not a number"),
            (b"2 1 -1", b"2 1 -1 \xff\x00\x1b[2J", "is not a number"),
            (
                b"2 1 -1",
                b"2 1 -1 0",
                "line 4, '2 1 -1 0': row 0 is not one of 1 to 2 (an entry has 3 numbers, this line 4)",
            ),
        ],
    )
    def test_matrix_market(self, tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
        content = BANNER + b"2 2 3\n1 1 2\n2 1 -1\n2 2 2\n"
        assert old in content
        refused(tmp_path / "A.mtx", content.replace(old, new, 1), says)
        refused(tmp_path / "A.mtx.gz", gzip.compress(content.replace(old, new, 1)), says)

    def test_a_symmetric_file_gives_one_triangle(self, tmp_path: Path) -> None:
        banner = BANNER.replace(b"general", b"symmetric")
        assert_reads(tmp_path / "A.mtx", banner + b"2 2 2\n1 1 2\n1 2 -1\n", [[2, -1], [-1, 0]])
        with pytest.warns(UserWarning, match="above and below the diagonal"):
            assert_reads(tmp_path / "A.mtx", banner + b"2 2 3\n1 1 2\n1 2 -1\n2 1 -1\n", [[2, -2], [-2, 0]])
        assert_reads(tmp_path / "A.mtx", banner + b"2 2 4\n1 1 2\n2 1 -1\n1 1 2\n2 1 -4\n", [[4, -5], [-5, 0]])
        refused(tmp_path / "A.mtx", banner + b"2 3 1\n1 1 2\n", "symmetric, but of shape (2, 3)")

    def test_archives(self, tmp_path: Path) -> None:
        path, index = tmp_path / "A.npz", np.arange(3)
        csr = members("csr", indices=index, indptr=np.arange(4), data=np.ones(3))
        coo = members("coo", row=index, col=index, data=np.ones(3))
        dia = members("dia", offsets=np.array([0]), data=np.ones((1, 3)))
        bsr = csr | {"format": np.array("bsr"), "data": np.ones((3, 1, 1))}
        for good in (csr, coo, dia, bsr):
            assert_reads(path, archive(good), np.eye(3))
            for name in good:
                refused(
                    path, archive({key: value for key, value in good.items() if key != name}), f"no member {name}.npy"
                )
                refused(path, archive(good | {name: np.array([{}])}), "pickled objects")
                refused(path, archive(good | {name: pickle.dumps([1])}), "is not an array written by numpy.save")
                refused(path, archive(good | {name: b""}), "is not an array written by numpy.save")
            refused(path, archive(good | {"data": good["data"] * 1j}), "must be real, got complex128")
            refused(path, archive(good | {"data": np.array(["a", "b", "c"])}), "must be real, got <U1")
            refused(path, archive(good | {"format": np.array("lil")}), "its format is 'lil'")
            refused(path, archive(good | {"format": np.array(7)}), "must be of integers or a name")
        huge = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
        bad: list[Any] = [
            [0, 1, 3],
            [0, 1, -1],
            huge,
            [0, 1, 2**62],
            [0.0, 1.0, 2.0],
            [0, 1],
            np.arange(9).reshape(3, 3),
        ]
        for wrong in bad:
            refused(path, archive(csr | {"indices": wrong}))
            refused(path, archive(bsr | {"indices": wrong}))
            refused(path, archive(csr | {"indices": wrong, "format": np.array("csc")}))
            refused(path, archive(coo | {"row": wrong}))
            refused(path, archive(coo | {"col": wrong}))
        for pointer in (
            [0, 1, 2, 4],
            [0, 1, 2, 2**40],
            [1, 1, 2, 3],
            [0, 2, 1, 3],
            [0, -1, 2, 3],
            [0, 3],
            [0, 1, 2, 2, 3],
            [],
        ):
            for good in (csr, bsr, csr | {"format": np.array("csc")}):
                refused(path, archive(good | {"indptr": np.array(pointer, dtype=np.int64)}))
        for offset in (3, -3, 2**31, -(2**63)):
            refused(path, archive(dia | {"offsets": np.array([offset])}), "outside of shape (3, 3)")
        refused(path, archive(dia | {"offsets": np.array([0, 0]), "data": np.ones((2, 3))}))
        refused(path, archive(bsr | {"data": np.ones((3, 0, 0))}))
        refused(path, archive(bsr | {"data": np.ones((3, 2, 2))}))

    @pytest.mark.parametrize(
        "content", [b"", b"hello", bytes(range(256)) * 9, b"PK\x03\x04" + bytes(99), b"PK\x05\x06" + bytes(18)]
    )
    @pytest.mark.parametrize("name", ["A.mtx", "A.mtx.gz", "A.npz", "b.npy", "b.mtx", "b.mtx.gz"])
    def test_other_files(self, tmp_path: Path, name: str, content: bytes) -> None:
        refused(tmp_path / name, content, n=3 if name.startswith("b") else None)

    @pytest.mark.parametrize("name", ["A.txt", "A.npy", "A.gz", "A", "A.mtx.bz2"])
    def test_names_of_matrices(self, tmp_path: Path, name: str) -> None:
        refused(tmp_path / name, b"", "A must be a .mtx, .mtx.gz or .npz file")

    def test_names_of_vectors(self, tmp_path: Path) -> None:
        refused(tmp_path / "b.npz", b"", "b must be a .npy, .mtx or .mtx.gz file", n=3)


class TestWhatIsNoFile:
    NAMES = ("A.mtx", "A.mtx.gz", "A.npz")

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_folders_pipes_devices(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        refused(path, None, "no such file")
        path.mkdir()
        refused(path, None, "Is a directory")
        path.rmdir()
        os.mkfifo(path)  # a reader that waited for a writer would hang here
        refused(path, None, "Not a regular file")
        path.unlink()
        path.symlink_to("/dev/zero")
        refused(path, None, "Not a regular file")
        path.unlink()
        path.symlink_to(path)
        refused(path, None, "symbolic links")

    def test_pipes_as_vectors(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "b.npy")
        refused(tmp_path / "b.npy", None, "Not a regular file", n=3)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_forbidden(self, tmp_path: Path) -> None:
        path = tmp_path / "A.mtx"
        path.write_bytes(market(symmetric()))
        path.chmod(0)
        refused(path, None, "Permission denied")

    def test_permission_denied_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", forbidden)
        with pytest.raises(MatrixFileError, match=r"cannot be read \(Permission denied\)"):
            read_matrix(tmp_path / "A.mtx")


@st.composite
def mutated(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """A valid file with bytes changed, removed, repeated or inserted, or cut off."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        until = at + draw(st.sampled_from([0, 1, 2, 4, 8, 40]))
        tokens = [b"", b"-", b"9" * 18, b"1e5", b"\r", b"\n", b" ", b"\0", b"\xff" * 4, b"nan", b"%", b"PK\x01\x02"]
        middle = draw(st.sampled_from([*tokens, bytes(content[at:until]) * 2]) | st.binary(max_size=6))
        content[at:until] = middle
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


SMALL = symmetric(5)
DENSE = SMALL.toarray()
TEXTS = [
    market(SMALL),
    market(SMALL, symmetry="symmetric"),
    market(DENSE),
    BANNER + b"2 2 3\r\n1 1 2\r\n2 1 -1\r\n2 2 2\r\n",
]
ARCHIVES = [npz(SMALL.asformat(form), compressed=compressed) for form in FORMATS for compressed in (False, True)]
FILES = {
    "A.mtx": TEXTS,
    "A.mtx.gz": [gzip.compress(text, 0) for text in TEXTS] + [gzip.compress(text) for text in TEXTS],
    "A.npz": ARCHIVES,
    "b.npy": [npy(DENSE[0]), npy(DENSE[:1].astype(">i2")), npy(DENSE[:, :1].astype(np.float16))],
    "b.mtx": [market(DENSE[:1]), market(coo_array(DENSE[:, :1]))],
}


def valid_or_refused(path: Path, content: bytes) -> None:
    """The file is read to something that can be computed with, or refused by the one documented error."""
    path.write_bytes(content)
    try:
        if path.name.startswith("b"):
            b = read_vector(path, 5)
            assert b.shape == (5,)
            assert b.dtype == np.float64
            return
        A = read_matrix(path)
    except MatrixFileError:
        return
    A.check_format(full_check=True)
    assert A.dtype == np.float64
    assert A.shape[0] == A.shape[1]
    assert A.shape[0] <= 1 << 20
    assert (A @ np.ones(A.shape[0])).shape == (A.shape[0],)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=300)
@given(data=st.data())
def test_mutations_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    valid_or_refused(path, data.draw(mutated(FILES[name])))


@settings(max_examples=200)
@given(data=st.data())
def test_archives_of_mutated_members(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """As above, with checksums that hold, so that what the members say is believed."""
    with zipfile.ZipFile(io.BytesIO(data.draw(st.sampled_from(ARCHIVES)))) as original:
        content = {name.removesuffix(".npy"): original.read(name) for name in original.namelist()}
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(mutated([content[name]]))
    valid_or_refused(tmp_path_factory.getbasetemp() / "A.npz", archive(content))


@pytest.mark.parametrize("name", FILES)
def test_truncations_are_refused(tmp_path: Path, name: str) -> None:
    for content in FILES[name]:
        # A text whose last number lost its last digits is another valid one.
        last = len(content.rstrip().rsplit(None, 1)[0]) if name.endswith("mtx") else len(content)
        for kept in range(0, last, 1 + len(content) // 60):
            refused(tmp_path / name, content[:kept], n=5 if name.startswith("b") else None)


def test_blocks_are_taken_apart(tmp_path: Path) -> None:
    A = bsr_array((np.arange(8.0).reshape(2, 2, 2), [1, 0], [0, 1, 2]), shape=(4, 4))
    assert_reads(tmp_path / "A.npz", npz(A), A)
