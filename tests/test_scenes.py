"""Scene files: what ships is read, what is left out has the defaults of the steppers, what is malformed is named."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepcd.data import SCENES
from deepcd.pde import BubbleStepper, Cell, Grid, LiquidState, LiquidStepper, SmokeStepper, icosphere
from deepcd.pde.domains import cells_of
from deepcd.solvers.simulation.scenes import (
    COMMON,
    OPTIONS,
    PLACES,
    REQUIRED,
    Scene,
    SceneWarning,
    State,
    read_scene,
)
from deepcd.solvers.simulation.shapes import MESHES, SHAPES, SOLIDS
from deepcd.solvers.simulation.tables import SceneError

SMOKE = 'kind = "smoke"\nshape = [8, 8, 8]\n'
FLAT = 'kind = "smoke"\nshape = [10, 6]\n'
LIQUID = 'kind = "liquid"\nshape = [8, 8]\n'
FILL = "[[fill]]\nbox = { low = [0, 0], high = [0.5, 1] }\n"
BALL = "ball = { center = [0.5, 0.5, 0.5], radius = 0.2 }\n"
STEPPERS = {"smoke": SmokeStepper, "liquid": LiquidStepper, "bubbles": BubbleStepper}


def read(folder: Path, text: str, scale: float = 1.0) -> Scene:
    path = folder / "own.toml"
    path.write_text(text)
    return read_scene(path, scale)


def never(*_: Any) -> Any:
    raise AssertionError


def grid_of(scene: Scene) -> Grid:
    return scene.stepper(never).grid


def start_of(scene: Scene) -> State:
    return scene.start(scene.stepper(never))


class TestShipped:
    @pytest.mark.parametrize("file", sorted(SCENES.glob("*.toml")), ids=lambda file: file.stem)
    def test_are_read_as_they_are_written(self, file: Path) -> None:
        written = tomllib.loads(file.read_text())
        scene = read_scene(file, 0.125)
        assert scene.shape == tuple(n // 8 for n in written["shape"])
        assert (scene.title, scene.kind, scene.frames) == (written["title"], written["kind"], written["frames"])
        assert (scene.tol, scene.view) == (written.get("tol", 1e-6), written.get("view", 1))
        assert scene.record == written | {"shape": list(scene.shape)}
        assert set(scene.options.items()) >= {(name, written[name]) for name in OPTIONS[scene.kind] if name in written}
        assert len(scene.sources) == len(written.get("source", []))
        boxes = [(fill["box"]["low"], fill["box"]["high"]) for fill in written.get("fill", [])]
        balls = [bubble["ball"] for bubble in written.get("bubble", [])]
        boxes += [([c - b["radius"] for c in b["center"]], [c + b["radius"] for c in b["center"]]) for b in balls]
        assert [(part.low.tolist(), part.high.tolist()) for part in scene.fills] == boxes
        written_obstacles = written.get("obstacle", [])
        if isinstance(written_obstacles, dict):
            written_obstacles = [written_obstacles]
        assert [turn is not None for _, turn in scene.obstacles] == ["turn" in table for table in written_obstacles]
        still = any(turn is None for _, turn in scene.obstacles)
        assert still == (not all(np.equal(grid_of(scene).cells, Cell.FLUID).flat))
        assert isinstance(scene.stepper(never), STEPPERS[scene.kind])


class TestDefaults:
    @pytest.mark.parametrize("text", [SMOKE, FLAT, LIQUID + FILL])
    def test_of_the_scene(self, tmp_path: Path, text: str) -> None:
        scene = read(tmp_path, text)
        assert (scene.title, scene.frames, scene.tol, scene.view) == ("own", 100, 1e-6, 1)
        assert scene.walls == ["solid"] * len(scene.shape)
        assert scene.obstacles == ()
        assert scene.sources == ()
        assert scene.options == REQUIRED[scene.kind]

    @pytest.mark.parametrize("text", [SMOKE, LIQUID + FILL])
    def test_are_those_of_the_stepper(self, tmp_path: Path, text: str) -> None:
        scene = read(tmp_path, text)
        known = inspect.signature(STEPPERS[scene.kind]).parameters
        stepper = scene.stepper(never)
        for name in OPTIONS[scene.kind]:
            expected = REQUIRED[scene.kind].get(name, known[name].default)
            assert getattr(stepper, name) == expected, name
        assert stepper.threads == 1
        assert scene.stepper(never, threads=3).threads == 3

    def test_only_what_has_no_default_is_filled_in(self) -> None:
        for kind, names in OPTIONS.items():
            known = inspect.signature(STEPPERS[kind]).parameters
            assert set(names) <= set(known)
            needed = {name for name in names if known[name].default is inspect.Parameter.empty}
            assert set(REQUIRED[kind]) == needed

    def test_options_that_are_given_reach_the_stepper(self, tmp_path: Path) -> None:
        text = SMOKE + "dt = 0.5\ncfl = 3\nalpha = -2.0\nbeta = 0.25\nepsilon = 0.125\n"
        stepper = read(tmp_path, text).stepper(never)
        assert [getattr(stepper, name) for name in OPTIONS["smoke"]] == [0.5, 3, -2.0, 0.25, 0.125]
        stepper = read(tmp_path, LIQUID + "dt = 0.5\ncfl = 3.0\ngravity = -4\n" + FILL).stepper(never)
        assert [getattr(stepper, name) for name in OPTIONS["liquid"]] == [0.5, 3.0, -4.0]


class TestContent:
    @pytest.mark.parametrize(("scale", "shape"), [(1.0, (10, 6)), (2.0, (20, 12)), (0.75, (8, 4)), (0.7, (7, 4))])
    def test_the_resolution_is_scaled_and_rounded(self, tmp_path: Path, scale: float, shape: tuple[int, ...]) -> None:
        scene = read(tmp_path, FLAT, scale)
        assert scene.shape == shape
        assert scene.record["shape"] == list(shape)
        assert grid_of(scene).spacing == 1 / shape[0]
        with pytest.raises(SceneError, match="at least 4 cells per axis, got 5 x 3"):
            read(tmp_path, FLAT, 0.5)

    def test_walls_may_differ_by_side(self, tmp_path: Path) -> None:
        scene = read(tmp_path, FLAT + 'walls = ["solid", ["solid", "air"]]\n')
        assert scene.walls == ["solid", ("solid", "air")]
        grid = grid_of(scene)
        assert grid.couplings()[1][:, -1].all()
        assert not grid.couplings()[1][:, :-1].any()

    @pytest.mark.parametrize("solid", SOLIDS)
    def test_every_solid_is_an_obstacle_and_a_source(self, tmp_path: Path, solid: str) -> None:
        numbers = {
            "ball": "center = [0.5, 0.5, 0.5], radius = 0.3",
            "box": "low = [0.25, 0, 0.5], high = [0.75, 0.5, 1]",
            "cylinder": "center = [0.5, 0.5, 0], radius = 0.3",
            "mesh": 'name = "icosphere", fit = [[0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]',
        }[solid]
        table = f"{solid} = {{ {numbers} }}\n"
        with pytest.warns(SceneWarning, match="lies inside of obstacles"):
            scene = read(tmp_path, f"{SMOKE}[obstacle]\n{table}[[source]]\n{table}density = 2\nvelocity = [0, 0, 1]\n")
        solids = np.equal(grid_of(scene).cells, Cell.SOLID)
        assert 0 < solids.sum() < solids.size
        stepper = scene.stepper(never)
        assert isinstance(stepper, SmokeStepper)
        (cells, source), *others = stepper.sources
        assert others == []
        np.testing.assert_array_equal(cells, solids)
        assert (source.density, source.temperature, source.velocity) == (2, None, [0, 0, 1])

    def test_an_axis_of_a_cylinder_may_be_chosen(self, tmp_path: Path) -> None:
        text = SMOKE + "[obstacle]\ncylinder = { center = [0, 0.5, 0.5], radius = 0.3, axis = 0 }\n"
        cells = grid_of(read(tmp_path, text)).cells
        assert (cells == cells[:1]).all()
        assert not (cells == cells[:, :1]).all()

    @pytest.mark.parametrize("name", MESHES)
    def test_a_mesh_fills_the_box_unless_it_is_told_where(self, tmp_path: Path, name: str) -> None:
        text = f'kind = "smoke"\nshape = [12, 12, 12]\n[obstacle]\nmesh = {{ name = "{name}" }}\n'
        solid = np.argwhere(np.equal(grid_of(read(tmp_path, text)).cells, Cell.SOLID))
        assert (np.ptp(solid, axis=0) >= 10).any()
        text = text.replace(" }", ", rotation = { axis = [1, 0, 0], degrees = 90 } }")
        turned = np.argwhere(np.equal(grid_of(read(tmp_path, text)).cells, Cell.SOLID))
        assert (solid.shape != turned.shape or (solid != turned).any()) == (name != "icosphere")

    def test_a_mesh_file_lies_beside_the_scene(self, tmp_path: Path) -> None:
        (tmp_path / "solid.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
        scene = read(tmp_path, SMOKE + '[obstacle]\nmesh = { file = "solid.obj" }\n')
        assert 0.05 < np.equal(grid_of(scene).cells, Cell.SOLID).mean() < 0.3

    def test_several_obstacles_are_one_solid(self, tmp_path: Path) -> None:
        other = BALL.replace("0.5, 0.5", "0.2, 0.8")
        both = grid_of(read(tmp_path, f"{SMOKE}[[obstacle]]\n{BALL}[[obstacle]]\n{other}")).cells
        one, two = (grid_of(read(tmp_path, f"{SMOKE}[obstacle]\n{table}")).cells for table in (BALL, other))
        np.testing.assert_array_equal(both, one | two)
        assert 0 < np.count_nonzero(one) < np.count_nonzero(both)

    def test_obstacles_turn_and_stand_side_by_side(self, tmp_path: Path) -> None:
        paddle = "[[obstacle]]\nbox = {{ low = [0.1, {0}, 0], high = [0.5, {1}, 1] }}\n"
        paddle += "turn = {{ center = [0.3, {2}], period = {3} }}\n"
        text = f"{SMOKE}{paddle.format(0.1, 0.3, 0.2, 4)}{paddle.format(0.6, 0.8, 0.7, -4)}[[obstacle]]\n"
        stepper = read(tmp_path, text + "box = { low = [0.8, 0, 0], high = [1, 1, 1] }\n").stepper(never)
        assert isinstance(stepper, SmokeStepper)
        assert np.count_nonzero(np.equal(stepper.grid.cells, Cell.SOLID)) == 2 * 64
        assert stepper.obstacle is not None
        region, (u, v, w) = stepper.obstacle(0.0)
        cells = cells_of(region, stepper.grid, "both")
        np.testing.assert_array_equal(np.unique(np.argwhere(cells)[:, 1]), [1, 5])
        assert not np.any(w)
        assert (np.asarray(v)[1, 1, 0] < 0) != (np.asarray(v)[1, 5, 0] < 0)  # they turn against each other
        assert (np.asarray(u)[1, 0, 0] > 0) != (np.asarray(u)[1, 4, 0] > 0)

    def test_what_turns_is_no_part_of_the_grid(self, tmp_path: Path) -> None:
        text = SMOKE + "[obstacle]\n" + BALL + "turn = { center = [0.5, 0.25], period = 2 }\n"
        scene = read(tmp_path, text)
        assert [turn for _, turn in scene.obstacles] == [((0.5, 0.25), 2.0)]
        assert np.equal(grid_of(scene).cells, Cell.FLUID).all()
        stepper = scene.stepper(never)
        assert isinstance(stepper, SmokeStepper)
        assert stepper.obstacle is not None

    def test_inflows_enter_through_walls(self, tmp_path: Path) -> None:
        east = '[[inflow]]\naxis = 0\nend = "low"\nvelocity = [1, 0, 0]\n'
        text = SMOKE + 'walls = [["solid", "air"], "periodic", "solid"]\n' + east + "density = 2.0\n" + BALL
        stepper = read(tmp_path, text.replace("[0.5, 0.5, 0.5]", "[0, 0.5, 0.5]")).stepper(never)
        assert isinstance(stepper, SmokeStepper)
        assert stepper.grid.periodic == (1,)
        (cells,), (inflow,) = stepper.openings.cells, stepper.openings.inflows
        assert (inflow.velocity, inflow.density, inflow.temperature) == ([1, 0, 0], 2.0, None)
        assert 4 <= np.count_nonzero(cells) == np.count_nonzero(cells[0]) <= 16
        liquid = read(tmp_path, LIQUID + FILL + east.replace("[1, 0, 0]", "[1, 0]")).stepper(never)
        assert isinstance(liquid, LiquidStepper)
        assert np.argwhere(liquid.openings.cells[0])[:, 1].tolist() == list(range(8))
        text = SMOKE + 'walls = ["solid", "solid", "air"]\n[[inflow]]\nvelocity = [0, -1, 0]\n' + BALL
        scene = read(tmp_path, text)
        assert [part.where for part in scene.nozzles] == ["inflow.ball"]
        assert [(i.axis, i.end, i.nozzle) for i in scene.inflows] == [(1, "high", True)]
        stepper = scene.stepper(never)
        assert isinstance(stepper, SmokeStepper)
        assert np.equal(stepper.grid.cells, Cell.SOLID)[stepper.openings.cells[0].nonzero()].sum() == 0
        assert np.equal(stepper.grid.cells, Cell.SOLID).any()
        there = read(tmp_path, LIQUID + FILL + "[[inflow]]\nvelocity = [1, -2]\n").inflows
        assert [(inflow.axis, inflow.end) for inflow in there] == [(1, "high")]

    def test_smoke_starts_at_rest(self, tmp_path: Path) -> None:
        state = start_of(read(tmp_path, SMOKE + "[[source]]\n" + BALL))
        assert not any(component.any() for component in state.velocity)

    def test_liquid_fills_its_boxes(self, tmp_path: Path) -> None:
        text = LIQUID + FILL + FILL.replace("[0.5, 1]", "[1, 0.25]")
        scene = read(tmp_path, text)
        assert [part.high.tolist() for part in scene.fills] == [[0.5, 1], [1, 0.25]]
        state = start_of(scene)
        assert isinstance(state, LiquidState)
        inside = np.zeros((8, 8), dtype=bool)
        inside[:4], inside[:, :2] = True, True
        np.testing.assert_array_equal(state.phi < 0, inside)

    @pytest.mark.parametrize("solid", SOLIDS)
    def test_liquid_fills_every_shape(self, tmp_path: Path, solid: str) -> None:
        numbers = {
            "ball": "center = [0.5, 0.5, 0.5], radius = 0.3",
            "box": "low = [0.25, 0, 0.5], high = [0.75, 0.5, 1]",
            "cylinder": "center = [0.5, 0.5, 0], radius = 0.3",
            "mesh": 'name = "icosphere", fit = [[0.2, 0.2, 0.2], [0.8, 0.8, 0.8]]',
        }[solid]
        table = f"{solid} = {{ {numbers} }}\n"
        state = start_of(read(tmp_path, f'kind = "liquid"\nshape = [16, 16, 16]\n[[fill]]\n{table}'))
        assert isinstance(state, LiquidState)
        sphere = 4 / 3 * np.pi * 0.3**3
        volume = {"ball": sphere, "box": 0.125, "cylinder": np.pi * 0.09, "mesh": sphere}[solid]
        assert state.volume == pytest.approx(volume, rel=0.06)


MALFORMED = [
    # what all scenes have
    ('kind = ["smoke"]', r"kind must be one of smoke, liquid, bubbles, got \['smoke'\]"),
    ('kind = "liquid"\n', "'shape' is missing"),
    ('kind = "smoke"\nshape = 8', "shape must be two or three whole numbers of cells, got 8"),
    ('kind = "smoke"\nshape = [8]', "shape must be two or three whole numbers"),
    ('kind = "smoke"\nshape = [true, 8]', "shape must be two or three whole numbers"),
    (SMOKE + "frames = true", "frames must be a whole number from 1 up, got True"),
    (SMOKE + "frames = 2.0", "frames must be a whole number"),
    (SMOKE + "tol = 1", "tol must be between 0 and 1, got 1"),
    (SMOKE + "tol = 0.0", "tol must be between 0 and 1"),
    (SMOKE + 'tol = "fine"', "tol must be between 0 and 1, got 'fine'"),
    (SMOKE + "view = true", "view must be an axis, 0, 1 or 2, got True"),
    (SMOKE + "view = -1", "view must be an axis"),
    (SMOKE + "walls = 3", "walls must be a list with one entry per axis, got 3"),
    (SMOKE + 'walls = "solid"', "walls must be a list with one entry per axis, got 'solid'"),
    (SMOKE + 'walls = ["solid"]', r"walls needs one entry per axis \(3\)"),
    (SMOKE + 'walls = [["air"], "solid", "solid"]', "each wall is"),
    # options of the steppers
    *((SMOKE + f'{name} = "much"', f"{name} must be a number, got 'much'") for name in OPTIONS["smoke"]),
    *((LIQUID + f"{name} = [1]\n" + FILL, rf"{name} must be a number, got \[1\]") for name in OPTIONS["liquid"]),
    *((SMOKE + f"{name} = nan", f"{name} must be") for name in OPTIONS["smoke"]),
    *((LIQUID + f"{name} = inf\n" + FILL, f"{name} must be") for name in OPTIONS["liquid"]),
    (SMOKE + "epsilon = -1.0", "epsilon must be finite and from 0 up"),
    (SMOKE + "gravity = 1.0", "unknown key gravity in the scene"),
    (LIQUID + "beta = 1.0\n" + FILL, "unknown key beta in the scene"),
    # sources
    (LIQUID + FILL + "[[source]]\n" + BALL, "unknown key source in the scene"),
    (SMOKE + "source = 3", r"source must be a list of tables, \[\[source\]\], got 3"),
    (SMOKE + "[source]\n" + BALL, r"source must be a list of tables, \[\[source\]\], got {'ball'"),
    (SMOKE + "source = [3]", "source must be a table, got 3"),
    (SMOKE + "[[source]]\n" + BALL + "colour = 1", "unknown key colour in source"),
    (SMOKE + "[[source]]\n" + BALL + 'density = "x"', "source.density must be a number, got 'x'"),
    (SMOKE + "[[source]]\n" + BALL + "density = nan", "density of a source must be finite"),
    (SMOKE + "[[source]]\n" + BALL + "temperature = true", "source.temperature must be a number, got True"),
    (SMOKE + "[[source]]\n" + BALL + "velocity = 1.0", "source.velocity must be a list of 3 numbers, got 1.0"),
    (SMOKE + "[[source]]\n" + BALL + "velocity = [1.0]", "source.velocity must be a list of 3 numbers"),
    (SMOKE + "[[source]]\n" + BALL + "velocity = [0, 0, nan]", "velocity of a source must be one finite"),
    # solids
    (SMOKE + "obstacle = 3", "obstacle must be a table, got 3"),
    (SMOKE + "[obstacle]\n", "obstacle must hold one of ball, box, cylinder, mesh, got none"),
    (SMOKE + "[obstacle]\n" + BALL + "box = {}", "obstacle must hold one of .*, got ball, box"),
    (SMOKE + "[[source]]\nball = 3", "source.ball must be a table, got 3"),
    *(
        (SMOKE + f"[obstacle]\n{kind} = {{}}", rf"obstacle.{kind}.{names[0]} is missing")
        for kind, (_, names) in SHAPES.items()
    ),
    (SMOKE + "[[source]]\nball = { center = [0, 0, 0] }", "source.ball.radius is missing"),
    (SMOKE + "[[source]]\nball = { center = [0, 0], radius = 1 }", "source.ball.center must be a list of 3 numbers"),
    (SMOKE + '[[source]]\nball = { center = "abc", radius = 1 }', "source.ball.center must be a list of 3 numbers"),
    (SMOKE + '[obstacle]\nball = { center = [0, 0, 0], radius = "x" }', "obstacle.ball.radius must be a number"),
    (SMOKE + "[obstacle]\nball = { center = [0, 0, 0], radius = -1 }", "obstacle.ball: radius must be positive"),
    (SMOKE + "[obstacle]\nball = { center = [0, 0, nan], radius = 1 }", "obstacle.ball: center must be"),
    (SMOKE + "[obstacle]\ncylinder = { center = [0, 0, 0], radius = 1, axis = 3 }", "obstacle.cylinder: axis must be"),
    (SMOKE + '[obstacle]\nbox = { low = [0, 0, 0], high = "top" }', "obstacle.box.high must be a list of 3 numbers"),
    # meshes
    (SMOKE + "[obstacle]\nmesh = 3", "obstacle.mesh must be a table, got 3"),
    (SMOKE + "[obstacle]\nmesh = {}", "obstacle.mesh must have either a file or a name"),
    (SMOKE + '[obstacle]\nmesh = { name = "knot", file = "a.stl" }', "obstacle.mesh must have either"),
    (SMOKE + '[obstacle]\nmesh = { name = ["knot"] }', "obstacle.mesh.name must be one of"),
    (SMOKE + "[obstacle]\nmesh = { file = 3 }", "obstacle.mesh.file must be a path, got 3"),
    (SMOKE + '[obstacle]\nmesh = { name = "torus", size = 3 }', "unknown key size in obstacle.mesh"),
    (SMOKE + '[obstacle]\nmesh = { name = "torus", fit = 3 }', r"obstacle.mesh: torus: fit must be \(low, high\)"),
    (SMOKE + '[obstacle]\nmesh = { name = "torus", rotation = 3 }', "obstacle.mesh.rotation must be a table"),
    (SMOKE + '[obstacle]\nmesh = { name = "torus", rotation = { axis = [0, 0, 1] } }', "rotation.degrees is missing"),
    (
        SMOKE + '[obstacle]\nmesh = { name = "torus", rotation = { axis = 1, degrees = 3 } }',
        "obstacle.mesh: torus: rotation must be",
    ),
    (FLAT + '[obstacle]\nmesh = { name = "torus" }', "obstacle.mesh: torus: fit must be"),
    # turns
    (SMOKE + "[obstacle]\n" + BALL + "turn = 3", "obstacle.turn must be a table, got 3"),
    (SMOKE + "[obstacle]\n" + BALL + "turn = { speed = 3 }", "unknown key speed in obstacle.turn"),
    (SMOKE + "[obstacle]\n" + BALL + "turn = { period = 3 }", "obstacle.turn.center is missing"),
    (SMOKE + "[obstacle]\n" + BALL + "turn = { center = [0, 0] }", "obstacle.turn.period is missing"),
    (SMOKE + "[obstacle]\n" + BALL + "turn = { center = [0], period = 1 }", "turn.center must be a list of 2 numbers"),
    (SMOKE + "[obstacle]\n" + BALL + 'turn = { center = [0, 0], period = "x" }', "turn.period must be a number"),
    (SMOKE + '[obstacle]\nmesh = { name = "knot" }\nturn = {}', "obstacle.turn is for a ball, box or cylinder"),
    (
        SMOKE.replace("smoke", "liquid") + "[[fill]]\nbox = { low = [0, 0, 0], high = [1, 1, 1] }\n[obstacle]\n"
        "ball = { center = [0, 0, 0], radius = 1 }\nturn = { center = [0, 0], period = 1 }",
        "obstacle.turn is for .* in smoke",
    ),
    (FLAT + "[obstacle]\nball = { center = [0, 0], radius = 1 }\nturn = {}", "in three dimensions"),
    # inflows
    (SMOKE + "[inflow]", r"inflow must be a list of tables, \[\[inflow\]\]"),
    (SMOKE + "[[inflow]]", "inflow.velocity is missing"),
    (SMOKE + '[[inflow]]\naxis = 0\nend = "low"\nvelocity = 1', "inflow.velocity must be a list of 3 numbers"),
    (SMOKE + '[[inflow]]\naxis = 0.0\nend = "low"\nvelocity = [1, 0, 0]', "inflow.axis must be a whole number"),
    (SMOKE + "[[inflow]]\naxis = 3\nvelocity = [1, 0, 0]", "inflow.axis must be a whole number from 0 to 2, got 3"),
    (SMOKE + '[[inflow]]\naxis = 0\nend = "left"\nvelocity = [1, 0, 0]', "low. or .high., got 0 and 'left'"),
    (SMOKE + '[[inflow]]\naxis = 0\nend = "low"\nvelocity = [1, 0, 0]', "enters, and nothing lets it out"),
    (LIQUID + FILL + "[[inflow]]\ndensity = 1", "unknown key density in inflow"),
    # fills
    (SMOKE + "fill = []", "unknown key fill in the scene"),
    (LIQUID + "fill = 3", r"fill must be a list of tables, \[\[fill\]\], got 3"),
    (LIQUID + "fill = [3]", "fill must be a table, got 3"),
    (LIQUID + "[[fill]]\nball = {}", "fill.ball.center is missing"),
    (LIQUID + "[[fill]]", "fill must hold one of ball, box, cylinder, mesh, got none"),
    (LIQUID + "[[fill]]\nbox = { low = [0, 0], top = 1 }", "unknown key top in fill.box"),
    (LIQUID + "[[fill]]\nbox = { low = [0, 0] }", "fill.box.high is missing"),
    (LIQUID + "[[fill]]\nbox = { low = 0, high = 1 }", "fill.box.low must be a list of 2 numbers, got 0"),
    (LIQUID + '[[fill]]\nbox = { low = "ab", high = [1, 1] }', "fill.box.low must be a list of 2 numbers"),
    (LIQUID + '[[fill]]\nbox = { low = ["a", "b"], high = [1, 1] }', "fill.box.low must be a list of 2 numbers"),
    (LIQUID + FILL + '[[fill]]\nmesh = { name = "knot" }', "fill 2.mesh: knot: fit must be"),
]


class TestWhatIsLost:
    """Nothing vanishes in silence: one warning for each thing, with its size in cells."""

    def warned(self, folder: Path, text: str) -> list[str]:
        with pytest.warns(SceneWarning) as caught:
            read(folder, text)
        return [str(warning.message).removeprefix(f"scene {folder / 'own.toml'}: ") for warning in caught]

    def test_a_plate_that_no_centre_lies_in(self, tmp_path: Path) -> None:
        text = SMOKE + "[[obstacle]]\nbox = { low = [0, 0.49, 0], high = [1, 0.51, 2] }\n[[obstacle]]\n" + BALL
        (lost,) = self.warned(tmp_path, text)
        assert lost.startswith("obstacle 1.box covers no cell: it is 8 x 0.16 x 8 cells large")
        assert lost.endswith("100 % of it is 0.16 cells thick; make it thicker than a cell, or give the box 7 times as "
                             "many cells per axis")  # fmt: skip

    def test_a_plate_that_becomes_a_cell_thick(self, tmp_path: Path) -> None:
        (lost,) = self.warned(tmp_path, SMOKE + "[obstacle]\nbox = { low = [0, 0.4, 0], high = [1, 0.45, 1] }\n")
        assert "obstacle.box is thinner than a cell and loses parts: it is 8 x 0.4 x 8" in lost

    def test_a_shell_of_a_mesh(self, tmp_path: Path) -> None:
        outer = icosphere(2)
        vertices = np.concatenate([outer.vertices, 0.97 * outer.vertices])
        triangles = np.concatenate([outer.triangles, outer.triangles[:, ::-1] + len(outer.vertices)]) + 1
        lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [f"f {a} {b} {c}" for a, b, c in triangles]
        (tmp_path / "shell.obj").write_text("\n".join(lines))
        (lost,) = self.warned(tmp_path, SMOKE + '[obstacle]\nmesh = { file = "shell.obj" }\n')
        assert "obstacle.mesh is thinner than a cell and loses parts: it is 8 x 8 x 8 cells large" in lost
        assert "100 % of it is 0.12 cells thick" in lost

    def test_what_lies_outside_or_inside_of_obstacles(self, tmp_path: Path) -> None:
        text = SMOKE + "[obstacle]\nball = { center = [0.5, 0.5, 2], radius = 0.4 }\n[[source]]\n" + BALL
        assert self.warned(tmp_path, text) == ["obstacle.ball lies outside of the box, which spans 0 to 1 x 1 x 1"]
        text = SMOKE + "[obstacle]\nbox = { low = [0, 0, 0], high = [1, 1, 0.9] }\n[[source]]\n" + BALL
        assert self.warned(tmp_path, text) == ["source.ball lies inside of obstacles, so that it has no effect"]

    def test_nothing_to_simulate(self, tmp_path: Path) -> None:
        text = SMOKE + "[obstacle]\nbox = { low = [0, 0, 0], high = [1, 1, 1] }\n"
        assert "the obstacles fill the whole box" in self.warned(tmp_path, text)[0]
        lost = self.warned(tmp_path, LIQUID + "[[fill]]\nball = { center = [0.5, 0.5], radius = 0.01 }\n")
        assert "fill.ball covers no cell: it is 0.16 x 0.16 cells large" in lost[0]
        assert "no cell is full of liquid" in lost[1]

    @pytest.mark.filterwarnings("error")
    def test_nothing_is_said_of_what_is_there(self, tmp_path: Path) -> None:
        read(
            tmp_path, SMOKE + "[[obstacle]]\n" + BALL + "[[obstacle]]\ncylinder = { center = [0, 0, 0], radius = 0.2 }"
        )
        for file in SCENES.glob("*.toml"):
            read_scene(file, 0.5)


class TestMalformed:
    @pytest.mark.parametrize(("text", "match"), MALFORMED)
    def test_the_key_is_named(self, tmp_path: Path, text: str, match: str) -> None:
        with pytest.raises(SceneError, match=match) as caught:
            read(tmp_path, text)
        assert str(caught.value).startswith(f"scene {tmp_path / 'own.toml'}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "spoilt", [{"colour": 1}, {"threads": 3}, {"solve": "x"}, {"sources": []}, {"spacing": 1.0}, {"record": {}}]
    )
    def test_no_key_is_passed_on_unknown(self, tmp_path: Path, spoilt: dict[str, Any]) -> None:
        (name, value), *_ = spoilt.items()
        known = ", ".join((*COMMON, *OPTIONS["smoke"], *PLACES["smoke"]))
        with pytest.raises(SceneError, match=f"unknown key {name} in the scene; known: {known}$"):
            read(tmp_path, SMOKE + f"{name} = {value!r}\n")

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(SceneError, match=r"nowhere\.toml: cannot be read \(No such file"):
            read_scene(tmp_path / "nowhere.toml")
        with pytest.raises(SceneError, match="cannot be read"):
            read_scene(tmp_path)
        (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SceneError, match=r"bytes\.toml: is no TOML"):
            read_scene(tmp_path / "bytes.toml")

    def test_more_cells_than_fit_into_memory(self, tmp_path: Path) -> None:
        with pytest.raises(SceneError, match="shape"):
            read(tmp_path, 'kind = "smoke"\nshape = [1000000, 1000000, 1000000]')
