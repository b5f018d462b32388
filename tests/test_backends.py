"""Back ends: found by name, the host leaves everything as it is, and arrays on a device are refused on the host."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD
from deepcd.solvers.arguments import as_csr, as_vector
from deepcd.solvers.backends import backend
from deepcd.solvers.backends.arrays import is_on_device, refuse_device
from deepcd.solvers.backends.backend import NAMES, devices, find
from deepcd.solvers.backends.cuda.device import Cuda
from deepcd.solvers.backends.host import Host
from deepcd.solvers.preparation import prepare
from deepcd.solvers.prepared import Solvable
from deepcd.solvers.recipes import ALGEBRAIC, RECIPES
from deepcd.solvers.structure import analyse

from .systems import SYSTEMS, line

REFUSED = 'lies on a CUDA device: solve there with DeepCD\\(device="cuda"\\), or copy it'


class OnDevice:
    """What numba, CuPy and torch have in common of an array on a device."""

    __cuda_array_interface__: ClassVar = {"shape": (3,), "typestr": "<f8", "data": (0, False), "version": 3}


class TestNames:
    def test_every_name_is_found_and_the_host_comes_first(self) -> None:
        assert [find(name).name for name in NAMES] == list(NAMES)
        assert find(NAMES[0]) == Host()
        assert [find(name).is_host for name in NAMES] == [True] + [False] * (len(NAMES) - 1)

    @pytest.mark.parametrize("name", ["gpu", "CPU", "", "cuda:0", None])
    def test_unknown_names(self, name: Any) -> None:
        with pytest.raises(ValueError, match=f"device must be 'cpu' or 'cuda', got {name!r}"):
            find(name)

    def test_what_cannot_run_here_is_found_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(_: Cuda) -> str:
            raise RuntimeError("no driver")

        monkeypatch.setattr(Cuda, "require", missing)
        assert find("cuda").name == "cuda"
        assert devices() == {"cuda": "no driver"}
        with pytest.raises(RuntimeError, match="no driver"):
            DeepCD(device="cuda")

    def test_devices_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Cuda, "require", lambda _: "a device")
        assert devices() == {"cuda": "a device"}

    def test_every_other_name_is_asked_for_the_host_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def stand_in(name: str) -> Host:
            asked.append(name)
            return Host()

        monkeypatch.setattr(backend, "find", stand_in)
        assert devices() == {"cuda": "the processor"}
        assert asked == ["cuda"]


class TestHost:
    def test_runs_every_recipe(self) -> None:
        assert all(Host().runs(recipe) for recipe in (*RECIPES.values(), ALGEBRAIC))

    @pytest.mark.parametrize("thing", [line(3), "anything", np.ones(3)])
    def test_leaves_things_where_they_are(self, thing: Any) -> None:
        assert Host().matrix(thing) is thing
        assert Host().place_matrix(thing) is thing
        assert Host().back(thing, [1.0, 2.0]) is thing

    def test_leaves_parts_where_they_are(self) -> None:
        solver = DeepCD("jacobi")
        prepared = prepare(analyse(line(5), solver.config), solver.config)
        assert isinstance(prepared, Solvable)
        parts = prepared.parts
        assert Host().place(parts) is parts

    def test_converts_vectors_as_their_names_say(self) -> None:
        v = np.arange(3.0)
        assert Host().vector("b", v, 3, columns=False) is not None
        assert np.shares_memory(Host().vector("b", v, 3, columns=False), v)
        assert Host().vector("b", np.ones((3, 2)), 3, columns=True).shape == (3, 2)
        with pytest.raises(ValueError, match=r"^guess must have shape \(3,\) or \(3, 1\)"):
            Host().vector("guess", np.ones((3, 2)), 3, columns=False)

    def test_hosts_are_alike(self) -> None:
        assert Host() == Host()
        assert DeepCD().config.backend == Host()


class TestArrays:
    @pytest.mark.parametrize("v", [np.ones(3), [1.0], 1.0, line(3), None])
    def test_what_lies_on_the_host(self, v: Any) -> None:
        assert not is_on_device(v)
        refuse_device("b", v)

    def test_what_lies_on_a_device_is_refused_by_name(self) -> None:
        assert is_on_device(OnDevice())
        for name in ("b", "x0"):
            with pytest.raises(TypeError, match=f"^{name} {REFUSED}"):
                refuse_device(name, OnDevice())
        with pytest.raises(TypeError, match=f"^b {REFUSED}"):
            as_vector("b", OnDevice(), 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^A {REFUSED}"):
            as_csr(OnDevice())

    def test_a_sparse_tensor_is_judged_by_its_values(self) -> None:
        class Tensor:
            layout = "torch.sparse_csr"

            def values(self) -> OnDevice:
                return OnDevice()

        with pytest.raises(TypeError, match=f"^A {REFUSED}"):
            as_csr(Tensor())

    def test_a_solve_names_the_argument(self) -> None:
        A = SYSTEMS["square"].A
        system = DeepCD("none").setup(A)
        b = np.ones(A.shape[0])
        with pytest.raises(TypeError, match=f"^b {REFUSED}"):
            system.solve(OnDevice())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^x0 {REFUSED}"):
            system.solve(b, x0=OnDevice())  # type: ignore[arg-type]
        assert system.solve(b).info == 0
        assert sp.issparse(A)
