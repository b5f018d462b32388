"""Advection: the compiled passes against their definition, order of accuracy, what is kept exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deepcd.pde import advect_scalars, advect_velocity
from deepcd.pde.kernels import reference

Velocity = tuple[np.ndarray, ...]

SHAPES = [(7, 5, 6), (4, 3, 9), (1, 4, 3), (5, 1, 2), (4, 3, 1), (2, 2, 2), (1, 1, 1), (9, 8), (1, 6), (6, 1), (1, 1)]


def faces(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(n + (d == axis) for d, n in enumerate(shape)) for axis in range(len(shape))]


def random_velocity(shape: tuple[int, ...], seed: int = 0) -> Velocity:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(face) for face in faces(shape))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("maccormack", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_definition(shape: tuple[int, ...], maccormack: bool, threads: int) -> None:
    """Traces of some cells, through the box and out of it, into cells that do not count and back."""
    rng = np.random.default_rng(1)
    velocity, inside = random_velocity(shape), rng.random(shape) < 0.7
    scalars = [rng.standard_normal(shape) for _ in range(3)]
    dt, h = 0.4, 0.3
    carried = advect_scalars(scalars, velocity, dt, h, maccormack=maccormack, inside=inside, threads=threads)
    moved = advect_velocity(velocity, dt, h, maccormack=maccormack, inside=inside, threads=threads)
    assert len(carried) == 3
    for result, scalar in zip(carried, scalars, strict=True):
        expected = reference.advect(scalar, velocity, dt / h, None, inside, maccormack)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)
    for axis, (result, component) in enumerate(zip(moved, velocity, strict=True)):
        expected = reference.advect(component, velocity, dt / h, axis, inside, maccormack)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)


def test_kinds_of_arrays() -> None:
    """Lists, float32 and Fortran order give what C-ordered float64 gives, and nothing that is given changes."""
    velocity = tuple(np.asfortranarray(u.astype(np.float32)) for u in random_velocity((5, 4, 6)))
    scalar = np.random.default_rng(0).random((5, 4, 6), dtype=np.float32)
    before = scalar.copy()
    (result,) = advect_scalars([scalar.tolist()], velocity, 0.5, inside=np.ones((5, 4, 6)).tolist())
    (again,) = advect_scalars([scalar], [u.astype(float) for u in velocity], 0.5)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, again)
    np.testing.assert_array_equal(scalar, before)


def rotation(n: int) -> Velocity:
    """Turn about the middle of the unit square, once in a time of 1."""
    centre = (np.arange(n) + 0.5) / n - 0.5
    u = np.broadcast_to(-2 * np.pi * centre, (n + 1, n))
    return u, np.broadcast_to(2 * np.pi * centre[:, None], (n, n + 1))


def blob(n: int, angle: float) -> np.ndarray:
    """Smooth, around a point that has turned by an angle."""
    x = (np.arange(n) + 0.5) / n - 0.5
    a, b = 0.2 * np.cos(angle), 0.2 * np.sin(angle)
    bell: np.ndarray = np.exp(-((x[:, None] - a) ** 2 + (x - b) ** 2) / (2 * 0.06**2))
    return bell


@pytest.mark.compiled
@pytest.mark.parametrize(("maccormack", "order"), [(False, 1.0), (True, 2.0)])
def test_order_of_accuracy(maccormack: bool, order: float) -> None:
    """A quarter turn of a smooth blob, the same number of cells per step on every grid."""
    errors = []
    for n in (64, 128, 256):
        field, velocity, steps = blob(n, 0.0), rotation(n), n // 4
        for _ in range(steps):
            (field,) = advect_scalars([field], velocity, 0.25 / steps, 1 / n, maccormack=maccormack)
        errors.append(np.abs(field - blob(n, np.pi / 2)).mean())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders[-1] == pytest.approx(order, abs=0.1)
    assert errors[-1] < (1e-3 if order == 1 else 1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_face_components_are_of_second_order(axis: int) -> None:
    """A stream of speed 1 along each axis carries a small wave of the next component, half a cell per step."""

    def error(n: int) -> float:
        shape = tuple(n if d == axis else 6 for d in range(3))
        other = (axis + 1) % 3

        def wave(at: float) -> np.ndarray:
            x = (np.arange(n) + 0.5) / n
            bell: np.ndarray = 0.01 * np.exp(-(((x - at) / 0.08) ** 2)).reshape(
                [-1 if d == axis else 1 for d in range(3)]
            )
            return bell

        velocity = [np.zeros(face) for face in faces(shape)]
        velocity[axis][...] = 1.0
        velocity[other][...] = wave(0.4)
        for _ in range(n // 4):
            velocity[other] = advect_velocity(velocity, 0.5 / n, 1 / n)[other]
        away = np.abs(velocity[other] - wave(0.525))  # on the faces of the box traces leave it
        return float(away[tuple(slice(None) if d == axis else 3 for d in range(3))].mean())

    assert np.log2(error(64) / error(128)) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("maccormack", [True, False])
@pytest.mark.parametrize("shape", [(6, 7, 5), (9, 7)])
def test_constants_are_kept_exactly(shape: tuple[int, ...], maccormack: bool) -> None:
    velocity = random_velocity(shape)
    for value in (0.1, -3.7e8, 1 / 3):
        (result,) = advect_scalars([np.full(shape, value)], velocity, 3.0, maccormack=maccormack)
        np.testing.assert_array_equal(result, value)
    uniform = [np.full(face, (axis - 0.7) / 3) for axis, face in enumerate(faces(shape))]
    for result, component in zip(advect_velocity(uniform, 2.3, maccormack=maccormack), uniform, strict=True):
        np.testing.assert_array_equal(result, component)


@pytest.mark.parametrize("maccormack", [True, False])
def test_rest_changes_nothing(maccormack: bool) -> None:
    field = np.random.default_rng(0).standard_normal((6, 5, 7))
    rest = [np.zeros(face) for face in faces(field.shape)]
    (result,) = advect_scalars([field], rest, 1.0, maccormack=maccormack)
    np.testing.assert_allclose(result, field, rtol=0, atol=1e-15)


def test_whole_cells_are_carried_whole() -> None:
    """A uniform flow of two cells per step; what comes in through the wall is what lay beside it."""
    field = np.random.default_rng(0).standard_normal((8, 5))
    velocity = [np.full((9, 5), 2.0), np.zeros((8, 6))]
    (result,) = advect_scalars([field], velocity, 1.0)
    np.testing.assert_allclose(result[2:], field[:-2], rtol=0, atol=1e-15)
    np.testing.assert_allclose(result[:2], field[[0, 0]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 11)])
@pytest.mark.parametrize("dt", [0.3, 2.0])
def test_no_new_extrema(shape: tuple[int, ...], dt: float) -> None:
    field = np.where(np.random.default_rng(0).random(shape) < 0.5, 0.0, 1.0)
    (result,) = advect_scalars([field], random_velocity(shape), dt)
    assert result.min() >= 0
    assert result.max() <= 1
    for before, after in zip(random_velocity(shape), advect_velocity(random_velocity(shape), dt), strict=True):
        assert before.min() <= after.min() <= after.max() <= before.max()


def test_traces_that_leave_what_is_inside_are_semi_lagrangian() -> None:
    shape = (12, 10)
    velocity, field = random_velocity(shape), np.random.default_rng(0).random(shape)
    inside = np.zeros(shape, dtype=bool)
    (nowhere,) = advect_scalars([field], velocity, 0.5, inside=inside)
    (plain,) = advect_scalars([field], velocity, 0.5, maccormack=False)
    np.testing.assert_array_equal(nowhere, plain)
    (everywhere,) = advect_scalars([field], velocity, 0.5)
    inside[3:8, 3:8] = True
    (partly,) = advect_scalars([field], velocity, 0.5, inside=inside)
    assert ((partly == plain) | (partly == everywhere)).all()
    assert (partly != plain).any()


def test_mirror_images_stay_mirror_images() -> None:
    rng = np.random.default_rng(0)
    u, v, w = (rng.standard_normal(face) for face in faces((8, 5, 6)))
    u, v, w = u - u[::-1], v + v[::-1], w + w[::-1]
    field = rng.random((8, 5, 6))
    (result,) = advect_scalars([field + field[::-1]], (u, v, w), 0.2)
    np.testing.assert_allclose(result, result[::-1], rtol=0, atol=1e-14)
    moved = advect_velocity((u, v, w), 0.2)
    for component, sign in zip(moved, (-1, 1, 1), strict=True):
        np.testing.assert_allclose(component, sign * component[::-1], rtol=0, atol=1e-14)


FLOW = random_velocity((4, 3))
SCALAR = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: advect_scalars([SCALAR], FLOW, 0.0), "dt must be positive and finite, got 0.0"),
        (lambda: advect_velocity(FLOW, -1.0), "dt must be positive and finite, got -1.0"),
        (lambda: advect_velocity(FLOW, 1.0, np.nan), "spacing must be positive and finite, got nan"),
        (lambda: advect_velocity(FLOW, 1.0, threads=0), "threads must be .* got 0"),
        (lambda: advect_velocity(FLOW[:1], 1.0), r"one array per axis.* got shapes \[\(5, 3\)\]"),
        (lambda: advect_velocity(FLOW[::-1], 1.0), r"got shapes \[\(4, 4\), \(5, 3\)\]"),
        (lambda: advect_velocity([], 1.0), "one array per axis"),
        (lambda: advect_velocity((FLOW[0] * np.nan, FLOW[1]), 1.0), "velocity holds NaN"),
        (lambda: advect_velocity((FLOW[0], FLOW[1] / 0.0), 1.0), "velocity holds NaN or infinite"),
        (lambda: advect_scalars([SCALAR + np.inf], FLOW, 1.0), "a scalar holds NaN or infinite"),
        (lambda: advect_scalars([SCALAR.T], FLOW, 1.0), r"shape of the grid, \(4, 3\), got \[\(3, 4\)\]"),
        (lambda: advect_scalars([SCALAR, SCALAR.T], FLOW, 1.0), r"got \[\(4, 3\), \(3, 4\)\]"),
        (lambda: advect_scalars([], FLOW, 1.0), "at least one"),
        (lambda: advect_velocity(FLOW, 1.0, inside=SCALAR.T), r"inside .*\(4, 3\), got \(3, 4\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
