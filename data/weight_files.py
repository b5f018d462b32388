"""Weight files: safetensors whose header says what they are, written atomically; an unusable file is refused.

The format is that of safetensors (8 bytes of header length, a JSON header, raw tensors): data, never code. Its
metadata holds four strings: ``format``, ``architecture``, ``sha256`` and ``record``, the training record in JSON.
Nothing is ever unpickled, and neither reading nor writing needs torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.data.files import UnusableError, open_regular, replace

FORMAT = "deepcd-weights/1"
SHIPPED = Path(__file__).parent / "weights"
MAX_HEADER = 1 << 20  # largest header in bytes; a thousand tensors with their record take a tenth of it

Tensors = dict[str, NDArray[Any]]
Record = dict[str, Any]


class WeightFileError(ValueError):
    """A weight file is missing, damaged, foreign, or made for another network. The message names the file and why."""

    def __init__(self, path: str | os.PathLike[str], reason: str, advice: str) -> None:
        self.reason = reason
        super().__init__(f"weight file {os.fspath(path)}: {reason}; {advice}")


def save(path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> None:
    """Write tensors and their training record to one file, all of it or nothing.

    Parameters
    ----------
    path : path-like
        The file to write or replace. It is written beside its final place, synchronised to disk and renamed.
    tensors : mapping of str to ndarray
        At least one tensor, of any shape, of integers or finite floats.
    record : mapping
        Training record, of values that JSON can hold. ``record["architecture"]`` names the network, for instance
        "learned-multigrid-3d/2"; the rest says how it was trained: commit, seed, seconds, steps, distribution.

    Raises
    ------
    ValueError
        If there is no tensor, one is not finite, or the record has no architecture or is not JSON.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from deepcd.data.weight_files import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/w.safetensors", {"w": np.ones(3)}, {"architecture": "example/1", "seed": 0})
    ...     load(f"{folder}/w.safetensors", "example/1")
    ({'w': array([1., 1., 1.])}, {'architecture': 'example/1', 'seed': 0})
    """
    from safetensors.numpy import save as serialize

    if not tensors:
        raise ValueError("tensors is empty: a weight file holds at least one")
    architecture = record.get("architecture")
    if not (isinstance(architecture, str) and architecture):
        raise ValueError(f'record["architecture"] must name the network, for instance "learned-multigrid-3d/2", '
                         f"got {architecture!r}")  # fmt: skip
    arrays = {name: np.ascontiguousarray(tensor).reshape(np.shape(tensor)) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"tensor {name!r} has dtype {array.dtype}; integers and floats can be saved")
        if not np.isfinite(array).all():
            raise ValueError(f"tensor {name!r} holds NaN or Inf: a diverged network is not saved")
    try:
        written = json.dumps(dict(record), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"record must be what JSON can hold (str, int, finite float, list, dict): {error}") from error
    metadata = {"format": FORMAT, "architecture": architecture, "sha256": _digest(arrays, written), "record": written}
    content = serialize(arrays, metadata)
    if _header_length(content[:8]) > MAX_HEADER:
        raise ValueError(f"names and record take more than the {MAX_HEADER} bytes of a header; shorten the record")
    replace(path, content)


def load(path: str | os.PathLike[str] | None, architecture: str | None) -> tuple[Tensors, Record]:
    """Read a weight file, or refuse it.

    Parameters
    ----------
    path : path-like or None
        None reads the shipped weights of the architecture, which must also match their line in ``CHECKSUMS``.
    architecture : str or None
        Name of the network that the weights are for, for instance "learned-multigrid-3d/2". None accepts the weights
        of any network, and needs a path.

    Returns
    -------
    tensors : dict of str to ndarray
        Fresh, writable arrays.
    record : dict
        The training record, with its "architecture".

    Raises
    ------
    WeightFileError
        If the file is missing, truncated, damaged, not of this format, or made for another network.
    """
    if path is None and architecture is None:
        raise ValueError("give a path, an architecture, or both")
    shipped = path is None
    file = shipped_path(str(architecture)) if path is None else Path(path)
    try:
        with open_regular(file) as stream:
            header = _read_header(stream)
            _check_metadata(header, architecture)
            content = header.content + stream.read(header.data_size)
        if shipped and hashlib.sha256(content).hexdigest() != checksums().get(file.name):
            raise UnusableError("does not match its line in CHECKSUMS")
        return _parse(content, header.metadata)
    except (OSError, UnusableError) as error:
        advice = (
            "reinstall deepcd, or train anew with `deepcd train`"
            if shipped
            else "give a file written by `deepcd train`, or none to use the shipped weights"
        )
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        raise WeightFileError(file, reason, advice) from error


def shipped_path(architecture: str) -> Path:
    """Return the path of the shipped weights of an architecture.

    Parameters
    ----------
    architecture : str
        Name of the network, for instance "learned-multigrid-3d/2".

    Returns
    -------
    Path

    Examples
    --------
    >>> shipped_path("learned-multigrid-3d/2").name
    'learned-multigrid-3d-2.safetensors'
    """
    return SHIPPED / (architecture.replace("/", "-") + ".safetensors")


def checksums() -> dict[str, str]:
    """Return the SHA-256 of every shipped file, as ``sha256sum *.safetensors > CHECKSUMS`` wrote them.

    Returns
    -------
    dict of str to str
        Hexadecimal digest by file name; empty if nothing is shipped.
    """
    listing = SHIPPED / "CHECKSUMS"
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.is_file() else []
    pairs = (line.split(maxsplit=1) for line in lines)
    return {name.lstrip("*").strip(): digest for digest, name in (pair for pair in pairs if len(pair) == 2)}


class _Header(NamedTuple):
    content: bytes  # the length and the JSON, as they stand in the file
    metadata: dict[str, str]
    data_size: int  # bytes of tensors that follow


def _read_header(stream: BinaryIO) -> _Header:
    """Read the header of a weight file after checking its length, so that hardly a byte of any other file is read."""
    start = stream.read(8)
    size = os.fstat(stream.fileno()).st_size
    length = _header_length(start)
    if start.startswith(b"PK\x03\x04"):
        raise UnusableError("is a zip archive, as torch.save and numpy.savez write them, not safetensors")
    if start[:1] == b"\x80" and length > MAX_HEADER:
        raise UnusableError("is a pickle, which is never loaded because it can run code")
    if len(start) == 8 and length > MAX_HEADER:
        raise UnusableError(f"claims a header of {length} bytes, {MAX_HEADER} at most are read: not safetensors")
    if size < 8 + max(length, 2):
        raise UnusableError(f"ends after {size} bytes, inside its header: truncated, or not safetensors")
    text = stream.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None)
        data_size = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, OverflowError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise UnusableError("has no safetensors header: damaged, or not safetensors") from error
    if size != 8 + length + data_size:
        raise UnusableError(f"has {size} bytes, its header describes {8 + length + data_size}: truncated or damaged")
    return _Header(start + text, metadata if isinstance(metadata, dict) else {}, data_size)


def _check_metadata(header: _Header, architecture: str | None) -> None:
    """Refuse what another program, another version of this one, or another network wrote."""
    form, found = header.metadata.get("format"), header.metadata.get("architecture")
    if not str(form).startswith("deepcd-weights/"):
        raise UnusableError("is safetensors of another program: its metadata names no deepcd-weights format")
    if form != FORMAT:
        raise UnusableError(f"has format {form!r}, but this version of deepcd reads {FORMAT!r}")
    if architecture is not None and found != architecture:
        raise UnusableError(f"holds weights of {found!r}, but those of {architecture!r} were asked for")


def _parse(content: bytes, metadata: Mapping[str, str]) -> tuple[Tensors, Record]:
    """Return tensors and record of a whole file after checking them against the digest in its metadata."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        tensors: Tensors = {name: np.array(tensor) for name, tensor in deserialize(content).items()}
        written = metadata["record"]
        genuine = metadata["sha256"] == _digest(tensors, written)
        record = json.loads(written)
        genuine = genuine and record["architecture"] == metadata["architecture"]
    except (SafetensorError, ValueError, RecursionError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise UnusableError(f"is damaged ({str(error)[:200]})") from error
    if not genuine:
        raise UnusableError("is damaged: tensors and record do not match the SHA-256 in the header")
    for name, tensor in tensors.items():  # `save` writes neither, but other programs may
        if tensor.dtype.kind not in "biuf":
            raise UnusableError(f"has dtype {tensor.dtype} in tensor {name!r}; integers and floats are expected")
        if not np.isfinite(tensor).all():
            raise UnusableError(f"holds NaN or Inf in tensor {name!r}: a network that diverged")
    return tensors, record


def _header_length(start: bytes) -> int:
    return int.from_bytes(start, "little")


def _digest(tensors: Mapping[str, NDArray[Any]], record: str) -> str:
    """Return the SHA-256 of the record and of name, dtype, shape and bytes of every tensor, ordered by name."""
    state = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        array = tensors[name]
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        state.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        state.update(little.tobytes())
    return state.hexdigest()
