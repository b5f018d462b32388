"""Every CUDA kernel is compiled for two architectures, without a device, and what came out is read.

No local memory (no spills), no double precision where float32 is promised, no division of integers, and addresses that
grow by one entry from thread to thread where loads are said to lie side by side.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(find_spec("numba_cuda") is None, reason='needs numba-cuda: pip install "deepcd[cuda]"'),
    pytest.mark.skipif(
        os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0", reason="the simulator takes the compiler's place"
    ),
]
ARCHITECTURES = [(8, 0), (9, 0)]
THREADS = {"visit": 512}  # of a block, where these are not 256
REGISTERS = 65536  # of a multiprocessor

f, d, u8, u32, i32, i64 = "float32[::1]", "float64[::1]", "uint8[::1]", "uint32[::1]", "int32[::1]", "int64[::1]"
f2, i2 = "float32[:,::1]", "int64[:,::1]"
n, s, f3, f4 = "UniTuple(int64,3)", "UniTuple(int64,2)", "UniTuple(float32,3)", "UniTuple(float32,4)"
LISTED = [n, s, u8, u32, u32, f4, f4, f2, "float32", f]
LEVEL = [n, s, f, f2, f, f2, f, f]
FINEST = {
    "descend": [[*LISTED, f, n, s, f3, f3, f, f, "int64"]],
    "ascend": [[*LISTED, f, f, s, f3, f3, f, "int64", d]],
}
COARSE = {
    "descend": [[*LEVEL, f, n, s, f3, f3, f, f, "int64"]],
    "ascend": [[*LEVEL, f, s, f3, f3, f, f, f, f, "float32", f, "boolean", "int64"]],
}
VISIT = {"visit": [[i2, f2, f, i64, f2, "int64"]]}
OUTER = {
    "total": [[d, "int64", d]],
    "residual": [[s, u8, d, d, f, d]],
    "image": [[s, u8, f, d], [s, u8, d, d]],
    "conjugate": [[s, u8, f, "float32", f, f, d]],
    "step": [[s, u8, "float64", f, d, f, "boolean", d]],
    "dot": [[a, b, d] for a in (f, d) for b in (f, d)],
    "largest": [[v, "float64", d] for v in (f, d)],
    "combine": [["float64", a, "float64", b, c] for a in (f, d) for b in (f, d) for c in (f, d)],
    "fill": [["float32", f], ["float64", d]],
    "take": [[index, v, t, v] for index in (i32, i64) for v, t in ((f, "float32"), (d, "float64"))],
    "put": [[index, a, "float64", "float64", b] for index in (i32, i64) for a in (f, d) for b in (f, d)],
    "sum_at": [[index, v, d] for index in (i32, i64) for v in (f, d)],
    "subtract_mean": [[index, v, d] for index in (i32, i64) for v in (f, d)],
    "matvec": [[i32, i32, d, d, d, d], [i64, i64, d, d, d, d]],
    "update": [["float64", d, d, d, d, "boolean", d], ["float64", f, f, d, f, "boolean", d]],
    "scale": [[d, d, d, d]],
}
w = "UniTuple(boolean,3)"
PLACE = ["int64", n, s, w, f, f, f, f]
FACES = {
    "conjugate": [*PLACE, f, "float32", f, f, f, d],
    "begin": ["float32", f, f, f],
    "relax": [*PLACE, f, "float32", f, f, f],
    "residual": [*PLACE, f, f, f],
    "solve": [i64, f2, f, f],
    "gather": ["int64", n, s, w, n, s, u8, u8, f, f],
    "spread": ["int64", n, s, w, n, s, u8, u8, f, "boolean", f],
}
AXES = "gather", "spread"  # of which there is one for each axis
# What has float64 in it, and why; in all other kernels not one instruction has.
DOUBLE = {
    "ascend": {"cvt.f64.f32", "fma.rn.f64", "add.f64", "mul.f64"},  # the sum of r.z
    "conjugate": {"cvt.f64.f32", "add.f64"},  # the sum of terms in float32
}
# Indices come from memory: what they lead to lies anywhere. So do tables of listed cells, and small levels in one block
# are found through their table.
SCATTERED = {"take", "put", "sum_at", "subtract_mean", "matvec", "visit", "solve"}
LISTS = {"mask", "before", "delta"}
COARSER = {"finest": "e", "coarse": "coarse"}  # on the way up two threads read one entry
# Along the last axis, transfers read entries two apart, or one for two threads.
HALVED = {"gather": {"near", "far", "v"}, "spread": {"e"}}
UNIFORM = {"partials", "out"}  # of sums: one thread of a block writes one entry


def typed(text: str) -> Any:
    """Return numba's type of an argument."""
    from numba import types

    return eval(text, {}, {**vars(types), "UniTuple": types.UniTuple})


def kernels() -> Iterator[tuple[str, Any, list[str]]]:
    """Yield a name, the kernel and a signature for every kernel there is."""
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse
    from deepcd.solvers.backends.cuda.kernels import faces as cuda_faces
    from deepcd.solvers.backends.cuda.kernels import finest as cuda_finest
    from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer

    own, along = ({k: [v] for k, v in FACES.items() if (k in AXES) == wanted} for wanted in (False, True))
    groups = [
        (cuda_outer, "outer", OUTER),
        (cuda_finest.BOX, "finest box", FINEST), (cuda_finest.PLANE, "finest plane", FINEST),
        (cuda_coarse.BOX, "coarse box", COARSE), (cuda_coarse.PLANE, "coarse plane", COARSE),
        (cuda_coarse, "small levels", VISIT),
        (cuda_faces, "faces", own), *((cuda_faces.ALONG[axis], f"faces {axis}", along) for axis in range(3)),
    ]  # fmt: skip
    for where, group, table in groups:
        for name, signatures in table.items():
            for signature in signatures:
                yield f"{group} {name} {' '.join(signature)}", getattr(where, name), signature


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda cc: f"sm_{cc[0]}{cc[1]}")
def compiled(request: pytest.FixtureRequest) -> dict[str, str]:
    """PTX of every kernel, by name and signature."""
    from numba import cuda
    from numba.cuda import dispatcher

    with pytest.MonkeyPatch.context() as patch:
        # Functions that kernels call are compiled for the device that is there, and there is none.
        patch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=request.param))
        texts = {}
        for name, kernel, signature in kernels():
            arguments = tuple(map(typed, signature))
            texts[name] = cuda.compile_ptx(kernel.py_func, arguments, cc=request.param)[0]
    assert all(f".target sm_{request.param[0]}{request.param[1]}" in text for text in texts.values())
    return texts


def base(name: str) -> str:
    """Return the kernel's own name."""
    return next(word for word in name.split() if word in {**OUTER, **FINEST, **COARSE, **VISIT, **FACES})


def instructions(ptx: str) -> list[tuple[str, list[str]]]:
    """Return operations and operands, in order."""
    body = ptx[ptx.index(".entry") :]
    found = re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.]*)\s+([^;]*);", body, re.MULTILINE)
    return [(op, [part.strip() for part in operands.split(",")]) for op, operands in found]


def test_every_kernel_is_here() -> None:
    from numba.cuda.dispatcher import CUDADispatcher

    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse
    from deepcd.solvers.backends.cuda.kernels import faces as cuda_faces
    from deepcd.solvers.backends.cuda.kernels import finest as cuda_finest
    from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer

    def kernels_of(where: Any) -> set[str]:
        own = {k: v for k, v in vars(where).items() if isinstance(v, CUDADispatcher)}
        return {name for name, v in own.items() if not v.targetoptions.get("device")}

    assert kernels_of(cuda_outer) == set(OUTER)
    assert kernels_of(cuda_finest) == set()
    assert kernels_of(cuda_finest.BOX) == kernels_of(cuda_finest.PLANE) == set(FINEST)
    assert kernels_of(cuda_coarse) == set(VISIT)
    assert kernels_of(cuda_coarse.BOX) == kernels_of(cuda_coarse.PLANE) == set(COARSE)
    assert kernels_of(cuda_faces) == set(FACES) - set(AXES)
    assert all(kernels_of(own) == set(AXES) for own in cuda_faces.ALONG)


def test_nothing_is_spilled_called_or_divided(compiled: dict[str, str]) -> None:
    for name, ptx in compiled.items():
        assert ".local" not in ptx, name
        for op, _ in instructions(ptx):
            assert not op.startswith(("call", "ld.local", "st.local", "rem")), (name, op)
            assert not op.startswith("div") or (base(name) == "subtract_mean" and op == "div.rn.f64"), (name, op)


def test_float32_stays_float32(compiled: dict[str, str]) -> None:
    for name, ptx in compiled.items():
        if name.startswith("outer") and base(name) not in DOUBLE:
            continue  # these compute in float64, which their documentation says
        if base(name) == "fill":
            continue
        used = {op for op, _ in instructions(ptx) if "f64" in op and not op.startswith(("ld", "st", "mov"))}
        allowed = DOUBLE.get(base(name), set()) if not name.startswith("coarse") else set()
        assert used <= allowed, name


Value = tuple[int | None, int | None]  # bytes or units from thread to thread along x, and the parameter it comes from


def accesses(ptx: str) -> list[tuple[str, Value]]:
    """Return accesses to global memory: by how much addresses differ from thread to thread, and whose they are.

    The difference is None where it is not a constant, or none could be found. A register that is set in several places,
    as a loop's variable is, has a constant if all of them agree.
    """
    code = instructions(ptx)
    values: dict[str, Value] = {}

    def of(operand: str) -> Value:
        if operand == "%tid.x":
            return 1, None
        if re.match(r"%rd?\d", operand):
            return values.get(operand, (None, None))
        return 0, None  # numbers and other special registers

    def result(op: str, a: list[str]) -> Value:
        kind = op.split(".", maxsplit=1)[0]
        if op.startswith("ld.param"):
            number = re.search(r"_param_(\d+)", a[1])
            return 0, int(number[1]) if number else None
        if op.startswith("ld"):
            return None, None
        if kind in ("mov", "cvt", "cvta"):
            return of(a[1])
        (x, p), (y, q) = of(a[1]), of(a[2]) if len(a) > 2 else (0, None)
        owner = q if p is None else p
        if kind in ("add", "sub"):
            return (None if x is None or y is None else x + y if kind == "add" else x - y), owner
        if kind == "shl" and a[2].isdigit():
            return (None if x is None else x << int(a[2])), None
        if kind in ("mul", "mad"):
            product = 0 if x == y == 0 else None
            for factor, other in ((a[1], y), (a[2], x)):
                if re.fullmatch(r"-?\d+", factor) and other is not None:
                    product = int(factor) * other
            if kind == "mul" or product is None:
                return product, None
            z, own = of(a[3])
            return (None if z is None else product + z), own
        if kind == "selp":
            return x if x == y else None, owner
        inputs = [of(operand)[0] for operand in a[1:]]
        return (0 if inputs and all(v == 0 for v in inputs) else None), None

    while True:
        before, known = dict(values), dict[str, Value]()
        for op, a in code:
            if a and re.fullmatch(r"%rd?\d+", a[0]) and not op.startswith(("st", "setp")):
                value = result(op, a)
                if a[0] in known and known[a[0]] != value:
                    value = None, value[1] if value[1] == known[a[0]][1] else None
                known[a[0]] = values[a[0]] = value
        if values == before:
            break
    found = []
    for op, a in code:
        if op.startswith(("ld.global", "st.global")):
            register = re.match(r"\[(%\w+)", a[1] if op.startswith("ld") else a[0])
            assert register is not None
            found.append((op, of(register[1])))
    return found


def owners(kernel: Any, signature: list[str]) -> dict[int, str]:
    """Return the names of array arguments by the number of the parameter that points to their data."""
    lengths = {f2: 9, i2: 9, n: 3, s: 2, w: 3, f3: 3, f4: 4}
    found, start = {}, 0
    for name, kind in zip(inspect.signature(kernel.py_func).parameters, signature, strict=True):
        length = lengths.get(kind, 7 if kind.endswith("[::1]") else 1)
        if length >= 7:
            found[start + 4] = name
        start += length
    return found


WIDTH = {"u8": 1, "s8": 1, "f32": 4, "u32": 4, "s32": 4, "f64": 8, "u64": 8, "s64": 8}


def test_neighbouring_threads_read_and_write_neighbouring_entries(compiled: dict[str, str]) -> None:
    for name, kernel, signature in kernels():
        if base(name) in SCATTERED:
            continue
        own, seen = owners(kernel, signature), set()
        halved = HALVED[base(name)] if name.startswith("faces 2") else set()
        for op, (stride, parameter) in accesses(compiled[name]):
            assert parameter in own, (name, op)
            array = own[parameter]
            if array in LISTS | halved or (base(name) == "ascend" and array == COARSER[name.split()[0]]):
                continue
            assert stride in (0, WIDTH[op.rsplit(".", 1)[1]]), (name, op, array, stride)
            seen |= {array} if stride else set()
        assert set(own.values()) - seen <= UNIFORM | LISTS | halved | set(COARSER.values()), name


def test_the_reading_of_addresses_is_able_to_fail() -> None:
    from numba import cuda, types

    def every_other(v: Any, index: Any, out: Any) -> None:
        i = np.uint64(cuda.grid(1))
        out[i] = v[np.uint64(2) * i] + v[np.uint64(index[i])] + v[0]

    arguments = (types.float32[::1], types.int32[::1], types.float32[::1])
    ptx = cuda.compile_ptx(every_other, arguments, cc=(8, 0))[0]
    own = owners(SimpleNamespace(py_func=every_other), [f, i32, f])
    found = [(own[parameter], stride) for _, (stride, parameter) in accesses(ptx) if parameter is not None]
    assert sorted(found, key=str) == [("index", 4), ("out", 4), ("v", 0), ("v", 8), ("v", None)]


@pytest.fixture(scope="module")
def ptxas() -> Path:
    """NVIDIA's assembler, which comes with the compiler."""
    spec = find_spec("nvidia")
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = [path for folder in folders for path in Path(folder).glob("*/bin/ptxas")]
    if not found:
        pytest.skip("needs ptxas, which nvidia-cuda-nvcc brings")
    return found[0]


def test_registers_suffice(compiled: dict[str, str], ptxas: Path, tmp_path: Path) -> None:
    """The assembler spills nothing either, and a multiprocessor has registers for at least two blocks of the cycle."""
    for name, ptx in compiled.items():
        source = tmp_path / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        target = re.search(r"\.target (sm_\d+)", ptx)
        assert target is not None
        command = [str(ptxas), "-v", f"-arch={target[1]}", str(source), "-o", str(tmp_path / "kernel.cubin")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        assert re.search(r"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", said), (name, said)
        registers, shared = re.search(r"Used (\d+) registers", said), re.search(r"(\d+) bytes smem", said)
        assert registers is not None
        assert 2 * int(registers[1]) * THREADS.get(base(name), 256) <= REGISTERS, (name, said)
        assert shared is None or int(shared[1]) <= 48 << 10, (name, said)
