"""Fields in files: what was saved comes back to the last bit, and anything else is refused in a sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from deepcd import pinn
from deepcd.data import weight_files
from deepcd.data.weight_files import WeightFileError
from deepcd.pde.equations import Frame
from deepcd.pde.equations.storage import FUNCTIONS, restored, stored
from deepcd.solvers.pinn.approximation import ARCHITECTURE

SMALL: dict[str, Any] = {"steps": 3, "points": 100, "width": 6, "depth": 2, "sampler": "sobol"}
L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
D = pinn.box(t=(0, 1), x=(-1, 1))
X = np.random.default_rng(0).uniform([0, -1], [1, 1], (40, 2))


@pytest.fixture(scope="module")
def rod() -> pinn.Run:
    return pinn.solve(
        lambda t, x, u, k: u.t - k * u.xx,
        D,
        pinn.on(["x-", "x+"], lambda u: u),
        pinn.observe([[0.1, 0.5], [0.2, 0.5]], u=[0.6, 0.5], sigma=0.01),
        start=lambda x: torch.cos(torch.pi * x / 2),
        unknowns={"k": 0.1},
        **SMALL,
    )


@pytest.fixture
def saved(rod: pinn.Run, tmp_path: Path) -> Path:
    path = tmp_path / "rod.safetensors"
    rod.save(path)
    return path


def test_what_was_saved_comes_back_to_the_last_bit(rod: pinn.Run, saved: Path) -> None:
    loaded = pinn.load(saved)
    assert not isinstance(loaded, pinn.Run)
    for what in (None, "u", "u.t", "u.xx", "u.x.t"):
        np.testing.assert_array_equal(loaded.predict(X, what), rod.predict(X, what))
    np.testing.assert_array_equal(loaded.residual(X), rod.residual(X))
    assert (loaded.axes, loaded.fields, loaded.title) == (("t", "x"), ("u",), "u_t - k u_xx = 0")
    assert loaded.unknowns == rod.unknowns
    assert loaded.deviation == rod.deviation != {}


@pytest.mark.parametrize("settings", [{}, {"single": True, "optimizer": "adam"}])
def test_so_do_systems_periodic_axes_and_any_listed_function(settings: dict[str, Any], tmp_path: Path) -> None:
    def equation(t: Any, x: Any, u: Any, v: Any) -> list[Any]:
        wave = torch.where((u > 0) & (x < 0.5), torch.sin(x * t) * u, torch.clamp(v, -1, 0.5))
        return [u.t + u * u.x * torch.exp(-v) * v.x - wave, v.t - torch.atan2(u, v + 2) + abs(v) ** 1.5]

    run = pinn.solve(
        equation,
        pinn.box(t=(0, 1), x=(-1, 1), periodic="x"),
        fields="uv",
        ansatz=lambda t, x, u, v: [torch.cos(torch.pi * x) * (1 + t * v) + t * u * v, t * v],
        **SMALL | settings,
    )
    run.save(tmp_path / "uv.safetensors")
    loaded = pinn.load(tmp_path / "uv.safetensors")
    for what in (None, "u", "v.x", "u.xt", "u.xx"):
        np.testing.assert_array_equal(loaded.predict(X, what), run.predict(X, what))
    assert loaded.predict(X).shape == loaded.residual(X).shape == (40, 2)
    np.testing.assert_array_equal(loaded.residual(X), run.residual(X))
    loaded.save(tmp_path / "again.safetensors")
    assert (
        weight_files.load(tmp_path / "again.safetensors", None)[1]
        == weight_files.load(tmp_path / "uv.safetensors", None)[1]
    )


@pytest.mark.parametrize("what", ["v", "u.y", "u.n", "u.", "u.__class__", "u.frame", "u.xxxxx"])
def test_there_is_no_such_field_or_derivative(saved: Path, what: str) -> None:
    with pytest.raises(ValueError, match=r"no field|no derivative|up to order 4"):
        pinn.load(saved).predict(X, what)


def test_a_function_that_no_file_can_hold_is_refused_when_saving(tmp_path: Path) -> None:
    run = pinn.solve(lambda x, u: u.x + torch.nn.functional.gelu(u), pinn.box(x=(0, 1)), start=lambda: 1.0, **SMALL)
    with pytest.raises(ValueError, match="gelu in an equation cannot be saved: use sums, products, powers, or abs, "):
        run.save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


class TestExpressions:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_every_listed_function_is_written_and_computed(self, name: str) -> None:
        function, counts = FUNCTIONS[name]
        frame = Frame("x")
        u = frame.field("u")
        for n in counts:
            node = frame.node(function, *((u > 0.3, u, 0.2) if name == "where" else (u, 0.5, 0.7)[:n]))
            (again,) = restored(stored([node]), Frame("x"))
            assert again.op is node.op
            assert str(again) == str(node)

    def test_other_names_of_a_function_are_written_as_one(self) -> None:
        u: Any = Frame("x").field("u")
        functions: list[tuple[Any, str]] = [
            (torch.absolute, "abs"),
            (torch.clip, "clamp"),
            (np.greater, "gt"),
            (np.arctan, "atan"),
        ]
        for given, name in functions:
            node = given(u, 0.5) if name in ("clamp", "gt") else given(u)
            assert stored([node])["nodes"][1][0] == name

    def test_numbers_keep_their_types(self) -> None:
        frame = Frame("x")
        u = frame.field("u")
        given: list[Any] = [u**2, u**2.0, 0.1 * u, frame.node(torch.where, u > 0, True, 1), 3, -0.5]
        again = restored(stored(given), Frame("x"))
        assert [type(a) for node in again[:4] for a in node.args] == [type(a) for node in given[:4] for a in node.args]
        assert again[4:] == [3, -0.5]

    @pytest.mark.parametrize("number", [math.inf, math.nan, 2**63, 10**400])
    def test_numbers_that_json_cannot_hold(self, number: float) -> None:
        frame = Frame("x")
        with pytest.raises(ValueError, match="it must be finite, and integers below"):
            stored([frame.node("mul", number, frame.field("u"))])

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([["system", 1]], "node 0: there is no function 'system'"),
            ([["__import__", "os"]], "a number was expected, got 'os'"),
            ([["axis", 0], ["eval", [0]]], "node 1: there is no function 'eval'"),
            ([["axis", 2]], "no axis 2"),
            ([["axis", True]], "no axis True"),
            ([["axis", 0, 0]], "no axis 0, 0"),
            ([["field", "v", [0, 0]]], "no field 'v'"),
            ([["field", "u", [0]]], "no field 'u'"),
            ([["field", "u", [5, 0]]], "no field 'u'"),
            ([["field", "u", [0, -1]]], "no field 'u'"),
            ([["unknown", "k"]], "no unknown 'k'"),
            ([["data", "u"]], "a number was expected, got 'u'"),
            ([["axis", 0], ["sin", [1]]], "node 1: an argument must be a number, or .i. for an earlier node"),
            ([["axis", 0], ["sin", [-1]]], "an earlier node"),
            ([["axis", 0], ["sin", [0], [0]]], "sin takes 1 arguments"),
            ([["axis", 0], ["atan2", [0]]], "atan2 takes 2 arguments"),
            ([["axis", 0], ["where", [0], 1]], "where takes 3 arguments"),
            ([["sin", 1]], "with a node among them"),
            ([["axis", 0], ["add", [0]]], "add takes two arguments or more"),
            ([["axis", 0], ["mul", [0], 2]], "the first alone may be a number"),
            ([["axis", 0], ["pow", [0], [0]]], "pow takes a node and a number"),
            ([["axis", 0], ["pow", [0], math.inf]], "it must be finite"),
            ([["axis", 0], ["pow", [0], 2**70]], "integers below"),
            ([["axis", 0], ["pow", [0], "2"]], "a number was expected"),
            ([["axis", 0]] * 20_001, "20001 nodes, but 20000 at most"),
            (["axis"], "an operation with its arguments was expected"),
            ([[]], "an operation with its arguments was expected"),
            ([[["axis"], 0]], "an operation with its arguments was expected"),
            ({}, 'must have the lists "nodes" and "results"'),
        ],
    )
    def test_what_no_equation_has_is_refused(self, nodes: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            restored({"nodes": nodes, "results": [[0]]}, Frame("tx"))


class TestFiles:
    def test_a_damaged_one(self, saved: Path) -> None:
        content = bytearray(saved.read_bytes())
        content[-5] ^= 1
        saved.write_bytes(content)
        with pytest.raises(WeightFileError, match=r"do not match the SHA-256 in the header; give a file that run.save"):
            pinn.load(saved)

    def test_another_architecture(self, rod: pinn.Run, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        weight_files.save(path, {"w": np.ones(3)}, {"architecture": "pinn/3"})
        with pytest.raises(WeightFileError, match="holds weights of 'pinn/3', but those of 'pinn-fields/1' were asked"):
            pinn.load(path)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(WeightFileError, match="No such file"):
            pinn.load(tmp_path / "none.safetensors")

    @pytest.mark.parametrize(
        "change",
        [
            {"axes": ["t", "x", "y"]},
            {"axes": ["t", "t"]},
            {"axes": []},
            {"axes": "tx"},
            {"axes": [["t"], ["x"]]},
            {"fields": ["u", "v"]},
            {"fields": ["t"]},
            {"fields": ["u.x"]},
            {"bounds": [[0, 1]]},
            {"bounds": [[0, 1], [1, -1]]},
            {"bounds": None},
            {"unknowns": {}},
            {"unknowns": {"k": "1 + 1"}},
            {"unknowns": [1]},
            {"deviation": 3},
            {"expressions": {"nodes": [], "results": []}},
            {"expressions": {"nodes": [["axis", 0]], "results": [[0]]}},
            {"expressions": {"nodes": [["axis", 0], ["print", [0]]], "results": [[0], [1]]}},
            {"expressions": [1, 2]},
            {"expressions": None},
        ],
    )
    def test_a_record_that_makes_no_sense(self, saved: Path, change: dict[str, Any]) -> None:
        tensors, record = weight_files.load(saved, ARCHITECTURE)
        weight_files.save(saved, tensors, record | change)
        with pytest.raises(WeightFileError, match="holds no fields that can be evaluated"):
            pinn.load(saved)

    @pytest.mark.parametrize(
        ("name", "tensor"),
        [
            ("weights.0", np.ones((6, 3))),
            ("weights.1", np.ones((6, 6), dtype=np.float32)),
            ("biases.0", np.ones(10**6)),
            ("biases.0", np.array(1.0)),
            ("weights.2", np.ones((2, 6))),
            ("rate", np.ones(3)),
            ("_waves", np.ones((3, 2))),
            ("more", np.ones(3)),
        ],
    )
    def test_tensors_of_another_network(self, saved: Path, name: str, tensor: Any) -> None:
        tensors, record = weight_files.load(saved, ARCHITECTURE)
        weight_files.save(saved, tensors | {name: tensor}, record)
        with pytest.raises(WeightFileError, match="holds no fields that can be evaluated"):
            pinn.load(saved)


class TestGrids:
    def image(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """Return the attributes of the image, and the number of arrays by place."""
        start = path.read_bytes().partition(b"<AppendedData")[0] + b"</VTKFile>"
        (image,) = ET.fromstring(start)
        return image.attrib, {one.tag: [a.attrib["Name"] for a in one] for one in image[0]}

    def test_time_is_an_axis(self, rod: pinn.Run, saved: Path, tmp_path: Path) -> None:
        rod.to_vtk(tmp_path / "rod.vti", (3, 5))
        attributes, arrays = self.image(tmp_path / "rod.vti")
        assert attributes == {
            "WholeExtent": "0 2 0 4 0 0",
            "Origin": "0.0 -1.0 0.0",
            "Spacing": "0.5 0.5 0.5",
        }
        assert arrays == {"PointData": ["u", "residual"]}
        pinn.load(saved).to_vtk(tmp_path / "loaded.vti", (3, 5))
        assert (tmp_path / "loaded.vti").read_bytes() == (tmp_path / "rod.vti").read_bytes()

    def test_points_outside_the_domain_are_blank(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        run = pinn.solve(lambda x, y, u: u.xx + u.yy + 1, L, pinn.on(L.boundary, lambda u: u), **SMALL)
        written: dict[str, Any] = {}
        monkeypatch.setattr(
            "deepcd.solvers.pinn.approximation.write_vti", lambda path, arrays, *_, **__: written.update(arrays)
        )
        run.to_vtk(tmp_path / "L.vti", (6, 6))
        blank = np.zeros((6, 6), dtype=bool)
        blank[3:, 3:] = True
        for values in written.values():
            np.testing.assert_array_equal(np.isnan(values), blank)

    def test_one_axis(self, tmp_path: Path) -> None:
        run = pinn.solve(lambda x, u: u.x + u, pinn.box(x=(0, 2)), start=lambda: 1.0, **SMALL)
        run.to_vtk(tmp_path / "line.vti", [11])
        assert self.image(tmp_path / "line.vti")[0]["WholeExtent"] == "0 10 0 0 0 0"

    @pytest.mark.parametrize(
        ("shape", "message"), [((3,), "for each of t, x"), ((3, 1), "at least 2"), ((3, 3, 3), "for each of t, x")]
    )
    def test_bad_shapes(self, rod: pinn.Run, shape: Any, message: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=message):
            rod.to_vtk(tmp_path / "x.vti", shape)

    def test_four_axes_are_too_many(self, tmp_path: Path) -> None:
        run = pinn.solve(lambda t, x, y, z, u: u.t - u.xx, pinn.box(t=(0, 1), x=(0, 1), y=(0, 1), z=(0, 1)), **SMALL)
        with pytest.raises(ValueError, match="up to three axes, but there are 4: t, x, y, z"):
            run.to_vtk(tmp_path / "x.vti")
