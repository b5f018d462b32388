"""Weight files: what goes in comes out; whatever is wrong with a file is refused by name and reason."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as raw_save

from deepcd.data import weight_files
from deepcd.data.weight_files import WeightFileError, load, save

ARCHITECTURE = "learned-multigrid-3d/2"
RECORD = {
    "architecture": ARCHITECTURE,
    "commit": "7bad404",
    "seed": 1,
    "seconds": 12.5,
    "steps": 1000,
    "distribution": {"families": ["smoke", "surface"], "sizes": [32, 64]},
}


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "layer.0.weight": rng.standard_normal((8, 6, 3)).astype(np.float32),
        "layer.0.bias": rng.standard_normal(8),
        "step": np.array(1000, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


def saved() -> bytes:
    """The content of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        save(f"{folder}/w", tensors(), RECORD)
        return Path(folder, "w").read_bytes()


CONTENT = saved()
START = 8 + int.from_bytes(CONTENT[:8], "little")
HEADER, DATA = json.loads(CONTENT[8:START]), CONTENT[START:]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save(path, tensors(), RECORD)
    return path


def refused(path: Path, *reasons: str, architecture: str = ARCHITECTURE) -> None:
    """Loading fails with a message that names the file, every given reason, and what to do."""
    with pytest.raises(WeightFileError) as caught:
        load(path, architecture)
    message = str(caught.value)
    assert str(path) in message
    assert "deepcd train" in message
    for reason in reasons:
        assert reason in message


def repack(path: Path, **changes: Any) -> None:
    """Rewrite the header of a file, keeping the tensors' bytes; a value of None removes a key of the metadata."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for key, value in changes.items():
        target = header if key in header else header["__metadata__"]
        if value is None:
            del target[key]
        else:
            target[key] = value
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_round_trip_keeps_values_types_shapes_and_record(good: Path) -> None:
    loaded, record = load(good, ARCHITECTURE)
    assert record == RECORD
    assert loaded.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert loaded[name].dtype == expected.dtype
        np.testing.assert_array_equal(loaded[name], expected, strict=True)
        assert loaded[name].flags.writeable


def test_any_architecture_when_none_is_asked_for(good: Path) -> None:
    assert load(good, None)[1]["seed"] == 1
    with pytest.raises(ValueError, match="path, an architecture"):
        load(None, None)


def test_strided_and_big_endian_tensors_are_saved_by_value(tmp_path: Path) -> None:
    strided = np.arange(12.0).reshape(3, 4).T[::2]
    save(tmp_path / "w", {"strided": strided, "big": np.arange(3, dtype=">f8")}, RECORD)
    loaded, _ = load(tmp_path / "w", ARCHITECTURE)
    np.testing.assert_array_equal(loaded["strided"], strided)
    np.testing.assert_array_equal(loaded["big"], [0, 1, 2])


@given(st.data())
def test_every_single_byte_flip_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("flip") / "w"
    save(path, {"w": np.arange(4, dtype=np.float32)}, {"architecture": ARCHITECTURE, "seed": 0})
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    refused(path)


@st.composite
def mutated_headers(draw: st.DrawFn) -> tuple[list[tuple[str, Any]], bytes]:
    """A header in which something was replaced by something else, and what follows it, perhaps cut or prolonged."""
    header = json.loads(json.dumps(HEADER))
    for _ in range(draw(st.integers(1, 3))):
        entry = header[draw(st.sampled_from(sorted(header)))]
        if not isinstance(entry, dict) or not entry:
            continue
        key = draw(st.sampled_from(sorted(entry)))
        numbers = st.sampled_from(
            [0, -1, -8, 1, 2**31, 2**53, 2**62, 2**63, 2**64, 10**40, 1.5, float("inf"), float("nan")]
        )
        words = st.sampled_from(
            ["", "F32", "F64", "BF16", "F8_E4M3", "F4", "C64", "U64", "BOOL", "[" * 3000, "{}", "\ud800"]
        )
        scalars = numbers | words | st.none() | st.booleans() | st.text(max_size=4)
        entry[key] = draw(
            scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
        )
    return list(header.items()), DATA[: draw(st.sampled_from([len(DATA), len(DATA), 0, 5]))]


@given(st.data())
def test_mutations_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes inserted, removed, repeated: equal to what was saved, or refused by the one documented error."""
    path = tmp_path_factory.getbasetemp() / "mutated"
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        until = at + data.draw(st.sampled_from([0, 1, 2, 8, 50]))
        tokens = [b"", b"-", b"9" * 19, b"1e999", b"null", b"{", b"}", b"[", b'"', b"\\u0000", b"\xff", b"\0" * 8, b" "]
        content[at:until] = data.draw(st.sampled_from([*tokens, bytes(content[at:until]) * 2]) | st.binary(max_size=8))
    loads_equal_or_is_refused(path, bytes(content))


@given(mutated_headers())
def test_mutated_headers_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, parts: tuple[list[tuple[str, Any]], bytes]
) -> None:
    text = json.dumps(dict(parts[0])).encode()
    content = len(text).to_bytes(8, "little") + text + parts[1]
    loads_equal_or_is_refused(tmp_path_factory.getbasetemp() / "mutated", content)


def loads_equal_or_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        loaded, record = load(path, ARCHITECTURE)
    except WeightFileError:
        return
    assert record == RECORD
    for name, expected in tensors().items():
        np.testing.assert_array_equal(loaded[name], expected, strict=True)


def forged(path: Path, tensors_: dict[str, np.ndarray], record: str) -> None:
    """Write a file whose checksum holds, as anybody can."""
    digest = weight_files._digest(tensors_, record)
    metadata = {"format": weight_files.FORMAT, "architecture": ARCHITECTURE, "record": record, "sha256": digest}
    path.write_bytes(raw_save(tensors_, metadata))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_forged_weights_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    forged(tmp_path / "w", {"a": np.ones(2), "b": np.array([1, bad], dtype=np.float32)}, json.dumps(RECORD))
    refused(tmp_path / "w", "NaN or Inf in tensor 'b'")


def test_forged_dtypes(tmp_path: Path) -> None:
    forged(tmp_path / "w", {"w": np.ones(2, dtype=np.complex64)}, json.dumps(RECORD))
    refused(tmp_path / "w", "complex64 in tensor 'w'")


def test_a_forged_record_that_nests_too_deeply(tmp_path: Path) -> None:
    forged(tmp_path / "w", {"w": np.ones(2)}, "[" * 100_000)
    refused(tmp_path / "w", "damaged")


def test_claimed_sizes_are_not_allocated(tmp_path: Path) -> None:
    """A terabyte of tensors, and shapes whose product overflows, in files of a few hundred bytes."""
    for entry in (
        {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]},
        {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [2**64 - 4, 2**64]},
    ):
        text = json.dumps({"__metadata__": HEADER["__metadata__"], "w": entry}).encode()
        (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        tracemalloc.start()
        refused(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()


@pytest.mark.parametrize("offsets", [([0, 8], [0, 8]), ([0, 8], [4, 12]), ([0, 8], [12, 20])])
def test_tensors_that_overlap_or_leave_gaps(tmp_path: Path, offsets: tuple[list[int], list[int]]) -> None:
    a, b = ({"dtype": "F32", "shape": [2], "data_offsets": pair} for pair in offsets)
    text = json.dumps({"__metadata__": HEADER["__metadata__"], "a": a, "b": b}).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(max(offsets[1])))
    refused(tmp_path / "w", "damaged")


def test_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w")
    refused(tmp_path / "w", "Not a regular file")


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 50, -100, -1])
def test_truncated(good: Path, kept: int) -> None:
    good.write_bytes(good.read_bytes()[:kept])
    refused(good, "truncated")


def test_trailing_bytes(good: Path) -> None:
    good.write_bytes(good.read_bytes() + b"\0")
    refused(good, "its header describes")


def test_other_architecture(good: Path) -> None:
    refused(good, repr(ARCHITECTURE), "'learned-multigrid-2d/2'", architecture="learned-multigrid-2d/2")


def test_renamed_architecture_in_the_header_alone(good: Path) -> None:
    repack(good, architecture="learned-multigrid-2d/2")
    refused(good, "damaged", architecture="learned-multigrid-2d/2")


def test_foreign_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(raw_save(tensors(), metadata))
        refused(path, "another program")


def test_newer_format(good: Path) -> None:
    repack(good, format="deepcd-weights/2")
    refused(good, "deepcd-weights/2", "deepcd-weights/1")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [8, 3, 6]},
        {"dtype": "I32"},
        {"dtype": "F64"},
        {"dtype": "BF16"},
        {"shape": [8, 6, -3]},
        {"shape": [2**62, 2**62]},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [-8, 4]},
        {"data_offsets": "none"},
    ],
    ids=str,
)
def test_corrupted_description_of_a_tensor(good: Path, change: dict[str, Any]) -> None:
    content = good.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    repack(good, **{"layer.0.weight": header["layer.0.weight"] | change})
    refused(good, "damaged")


@pytest.mark.parametrize("key", ["sha256", "record", "architecture"])
def test_missing_metadata(good: Path, key: str) -> None:
    repack(good, **{key: None})
    refused(good, "damaged" if key != "architecture" else "None")


@pytest.mark.parametrize("record", ["[1]", "not json", "{}", json.dumps(RECORD | {"seed": 2})])
def test_changed_record(good: Path, record: str) -> None:
    repack(good, record=record)
    refused(good, "damaged")


def test_record_that_is_no_object_is_refused_even_with_its_digest(good: Path) -> None:
    repack(good, record="[1]", sha256=weight_files._digest(tensors(), "[1]"))
    refused(good, "damaged")


@pytest.mark.parametrize("length", [2**20 + 1, 2**40, 2**64 - 1])
def test_oversized_header(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w"
    path.write_bytes(length.to_bytes(8, "little") + b"{" * 100)
    refused(path, "header", str(length))


@pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"a": 1}', b"{" * 64, b"[" * 100_000, b"\xff\xfe{}", b""])
def test_headers_that_are_no_headers(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, "safetensors")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = tmp_path / "weights.safetensors"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
        refused(path, "pickle" if protocol >= 2 else "not safetensors")
    assert not (tmp_path / "exploded").exists()


def test_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with path.open("wb") as stream:
        np.savez(stream, w=np.zeros(3))
    refused(path, "zip archive")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1"]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(content)
    refused(path, "not safetensors")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.safetensors", "No such file")
    refused(tmp_path, "directory")


@pytest.mark.parametrize(
    ("tensors_", "record", "message"),
    [
        ({}, RECORD, "empty"),
        ({"w": np.array([1.0, np.nan])}, RECORD, "'w' holds NaN"),
        ({"w": np.array([np.inf])}, RECORD, "'w' holds NaN or Inf"),
        ({"w": np.array(["text"])}, RECORD, "dtype <U4"),
        ({"w": np.array([object()])}, RECORD, "dtype object"),
        ({"w": np.ones(2)}, {"seed": 1}, "architecture"),
        ({"w": np.ones(2)}, RECORD | {"loss": float("nan")}, "JSON"),
        ({"w": np.ones(2)}, RECORD | {"rng": np.ones(2)}, "JSON"),
        ({"w": np.ones(2)}, RECORD | {"note": "x" * 2**20}, "shorten the record"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, tensors_: Any, record: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "w", tensors_, record)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_old_file_and_no_litter(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(good, {"w": np.zeros(1)}, RECORD)
    monkeypatch.undo()
    assert load(good, ARCHITECTURE)[0].keys() == tensors().keys()
    assert [path.name for path in good.parent.iterdir()] == [good.name]


class TestShipped:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(weight_files, "SHIPPED", tmp_path)
        save(weight_files.shipped_path(ARCHITECTURE), tensors(), RECORD)
        content = weight_files.shipped_path(ARCHITECTURE).read_bytes()
        name = weight_files.shipped_path(ARCHITECTURE).name
        (tmp_path / "CHECKSUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        return tmp_path

    def test_loads(self, folder: Path) -> None:
        assert load(None, ARCHITECTURE)[1] == RECORD

    @pytest.mark.parametrize(
        "listing",
        [b"", b"0" * 64 + b"  learned-multigrid-3d-2.safetensors\n", b"\n\n", b"0" * 64, b"\xff\xfe\0", b"a b c\n"],
    )
    def test_wrong_or_missing_checksum(self, folder: Path, listing: bytes) -> None:
        (folder / "CHECKSUMS").write_bytes(listing)
        with pytest.raises(WeightFileError, match="CHECKSUMS; reinstall"):
            load(None, ARCHITECTURE)

    def test_replaced_by_another_valid_file(self, folder: Path) -> None:
        save(weight_files.shipped_path(ARCHITECTURE), {"w": np.ones(1)}, RECORD)
        with pytest.raises(WeightFileError, match="CHECKSUMS"):
            load(None, ARCHITECTURE)

    def test_nothing_shipped(self, folder: Path) -> None:
        with pytest.raises(WeightFileError, match=r"learned-multigrid-9d-2\.safetensors: cannot be read.*reinstall"):
            load(None, "learned-multigrid-9d/2")
        (folder / "CHECKSUMS").unlink()
        assert weight_files.checksums() == {}


def test_what_the_repository_ships_is_whole() -> None:
    listed = weight_files.checksums()
    assert sorted(listed) == sorted(path.name for path in weight_files.SHIPPED.glob("*.safetensors"))
    for name in listed:
        _, record = load(weight_files.SHIPPED / name, None)
        load(None, record["architecture"])
        assert weight_files.shipped_path(record["architecture"]).name == name
        trained_on = "kind" if record["architecture"].startswith("dcdm") else "distribution"
        assert record.keys() >= {"commit", "seed", "seconds", "steps", trained_on}


def test_torch_is_not_needed(good: Path) -> None:
    program = (
        "import sys; from deepcd.data.weight_files import load; "
        f"load({os.fspath(good)!r}, {ARCHITECTURE!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
