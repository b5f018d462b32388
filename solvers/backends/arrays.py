"""Arrays of other libraries: those on a device are told from those of the host, those of the host become NumPy's.

torch is imported for nothing of this: what is a tensor cannot have been made without it.
"""

from __future__ import annotations

import numbers
import sys
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def is_on_device(v: Any) -> bool:
    """Return whether an array, such as a torch tensor, lies on a CUDA device."""
    if is_tensor(v):
        return bool(v.is_cuda)  # some kinds of tensor cannot be asked for the interface, even in vain
    return hasattr(v, "__cuda_array_interface__")


def refuse_device(name: str, v: Any) -> None:
    """Raise a TypeError if an array lies on a CUDA device."""
    if is_on_device(v):
        raise TypeError(f'{name} lies on a CUDA device: solve there with DeepCD(device="cuda"), or copy it')


def is_tensor(v: Any) -> bool:
    """Return whether an object is a tensor of torch, dense or sparse."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(v, tensor)


def is_sparse_tensor(A: Any) -> bool:
    """Return whether A is a sparse CSR tensor of torch."""
    return _layout(A) == "sparse_csr"


def refuse_gradient(name: str, v: Any) -> None:
    """Raise a TypeError if a tensor wants a gradient, which no solve computes."""
    if is_tensor(v) and v.requires_grad:
        raise TypeError(f"{name} requires a gradient, which does not flow through a solve: pass {name}.detach()")


def host_array(name: str, v: Any, what: str, *, sparse: bool = False) -> Any:
    """Return an argument as an array of NumPy or SciPy; its memory is shared where possible.

    Parameters
    ----------
    name : str
        What the caller calls it, for the error message.
    v : object
        An array, a sparse matrix, or what NumPy makes an array of numbers of. A tensor of torch on the CPU may be
        dense, or sparse with two axes: CSR, CSC or COO, coalesced or not. A masked array has nothing masked. The index
        of a pandas object is not looked at: entries count by position, as everywhere in NumPy and SciPy.
    what : str
        What it has to be, for the error message.
    sparse : bool, default False
        Whether it may be sparse; it is returned as a sparse array then.

    Returns
    -------
    ndarray or sparse array
        Half precision of a sparse tensor, which SciPy does not know, is float32.

    Raises
    ------
    TypeError
        If it is on a device, wants a gradient, or is no array of numbers at all.
    ValueError
        If entries are masked, or rows have different lengths.
    """
    refuse_gradient(name, v)
    refuse_device(name, v.values() if is_sparse_tensor(v) else v)
    if not sparse and (sp.issparse(v) or _layout(v).startswith("sparse")):
        raise TypeError(f"{name} must be {what}, got a sparse one: use its toarray() or to_dense()")
    if is_tensor(v):
        v = _from_tensor(name, v)
    if sp.issparse(v):
        return v
    if np.ma.is_masked(v):
        place = tuple(int(i) for i in np.argwhere(np.ma.getmaskarray(v))[0])
        where = ", ".join(map(str, place))
        raise ValueError(f"{name} must have no masked entries, got one at {name}[{where}]: fill them first")
    try:
        array = np.asarray(v)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{name} must be {what}, got a {type(v).__name__} whose entries differ in length") from None
    if array.dtype.kind not in "biufc" and not isinstance(v, np.ndarray):
        raise TypeError(f"{name} must be {what}, got {_described(v, array)}")
    return array


def as_given(x: NDArray[Any], given: Any) -> Any:
    """Return an answer as the kind of array that the right-hand side was: a tensor for a tensor, else NumPy's."""
    if not is_tensor(given):
        return x
    import torch

    return torch.from_numpy(x)


def _described(v: Any, array: NDArray[Any]) -> str:
    """Return what was given in the place of numbers, and what NumPy made an array of."""
    if v is None:
        return "None"
    kind = type(v).__name__
    if array.ndim == 0:
        return f"a {kind}"
    odd = next((entry for entry in array.flat if not isinstance(entry, numbers.Number)), None)
    entry = "None" if odd is None else f"a {type(odd).__name__.removesuffix('_')}"  # NumPy's str_
    return f"a {kind} with {entry} in it"


def _layout(v: Any) -> str:
    """Return how a tensor lies in memory, as torch calls it; an empty string for anything else."""
    layout = str(getattr(v, "layout", ""))
    return layout.removeprefix("torch.") if layout.startswith("torch.") else ""


def _from_tensor(name: str, v: Any) -> Any:
    """Return a tensor as an ndarray, or as a sparse array of SciPy."""
    if v.device.type != "cpu":
        raise TypeError(f"{name} lies on the device {v.device}: copy it to the CPU")
    layout = _layout(v)
    if layout == "strided":
        return _entries(v)
    if layout not in ("sparse_csr", "sparse_csc", "sparse_coo"):
        raise TypeError(f"{name} must be a dense, CSR, CSC or COO tensor, got {layout}")
    if v.sparse_dim() != 2 or v.dense_dim() != 0 or v.dim() != 2:
        raise ValueError(f"{name} must have two axes, both of them sparse, got a tensor of shape {tuple(v.shape)}")
    shape = tuple(v.shape)
    if layout == "sparse_coo":
        v = v.coalesce()  # adds up duplicates
        A = sp.coo_array((_values(v), tuple(_entries(v.indices()))), shape=shape)
        return sp.csr_array(A)
    if layout == "sparse_csr":
        return sp.csr_array((_values(v), _entries(v.col_indices()), _entries(v.crow_indices())), shape=shape)
    return sp.csr_array(sp.csc_array((_values(v), _entries(v.row_indices()), _entries(v.ccol_indices())), shape=shape))


def _values(v: Any) -> NDArray[Any]:
    """Return the entries of a sparse tensor in a precision that SciPy knows."""
    entries = _entries(v.values())
    return entries.astype(np.float32) if entries.dtype == np.float16 else entries


def _entries(v: Any) -> NDArray[Any]:
    """Return a dense tensor as an ndarray."""
    if str(v.dtype) == "torch.bfloat16":
        v = v.float()  # NumPy does not know it
    array: NDArray[Any] = v.resolve_conj().resolve_neg().numpy()
    return array
