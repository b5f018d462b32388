"""Random domains: the distribution that the networks are trained on, and families kept out of it for testing.

A family is a function (shape, rng) -> Grid that works in 2D and 3D; its last axis points up. All lengths scale with
the box, so one family covers every size. `TRAINING` are seen in training; `HELD_OUT` never are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepcd.pde import Grid, Shape, ball, box, cylinder, domain, height_field

Family = Callable[[Sequence[int], np.random.Generator], Grid]
NOTHING = Shape(lambda x: np.zeros((1,) * len(x), dtype=bool))


def _open_top(ndim: int) -> list[str | tuple[str, str]]:
    """Return the walls of a tank: solid except for its open top."""
    return ["solid"] * (ndim - 1) + [("solid", "air")]


def obstacles(shape: Sequence[int], rng: np.random.Generator, most: int = 7) -> Shape:
    """Return the union of up to `most` - 1 random balls, boxes and cylinders.

    Parameters
    ----------
    shape : sequence of int
        Cells per axis of the grid that they will stand in.
    rng : numpy.random.Generator
        Source of the random numbers.
    most : int, default 7
        One more than the largest number of obstacles.

    Returns
    -------
    Shape
    """
    extent = np.asarray(shape, dtype=float)
    scale = float(np.exp(np.mean(np.log(extent))))
    union = NOTHING
    for _ in range(rng.integers(0, most)):
        c, r = rng.random(len(extent)) * extent, scale * (0.04 + 0.16 * rng.random())
        kind = rng.integers(0, 3)
        if kind == 0:
            union |= ball(c, r)
        elif kind == 1:
            half = r * (0.3 + rng.random(len(extent)))
            union |= box(c - half, c + half)
        else:
            union |= cylinder(c, 0.6 * r, axis=int(rng.integers(0, len(extent))))
    return union


def closed_cube(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return an empty box whose walls are all air (Dirichlet)."""
    return domain(shape, walls="air", air_at="face" if rng.random() < 0.2 else "center")


def open_top(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a box with solid walls, an open top and solid obstacles."""
    return domain(shape, solid=obstacles(shape, rng), walls=_open_top(len(shape)))


def free_surface(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a tank of liquid under a wavy surface, with solid obstacles."""
    extent, top = np.asarray(shape[:-1], dtype=float), float(shape[-1])
    mean, amplitude = top * rng.uniform(0.35, 0.7), top * 0.12 * rng.random(len(extent))
    waves, phase = 2 * np.pi * rng.uniform(1, 3, len(extent)), rng.uniform(0, 2 * np.pi, len(extent))

    def level(*x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            mean
            + sum(a * np.sin(w * t / n + p) for a, w, t, n, p in zip(amplitude, waves, x, extent, phase, strict=True))
        )

    where: Literal["center", "face"] = "face" if rng.random() < 0.2 else "center"
    return domain(shape, solid=obstacles(shape, rng), air=~height_field(level), air_at=where)


def mixed_walls(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a box with an open top whose other walls are solid or air at random, with solid and air obstacles."""
    walls = [tuple("air" if rng.random() < 0.4 else "solid" for _ in range(2)) for _ in shape]
    walls[-1] = (walls[-1][0], "air")
    air = obstacles(shape, rng, 3)
    return domain(
        shape, solid=obstacles(shape, rng, 6), air=air, walls=walls, air_at="face" if rng.random() < 0.2 else "center"
    )


def pure_neumann(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a sealed box with solid obstacles: the pressure is fixed up to a constant."""
    return domain(shape, solid=obstacles(shape, rng))


def porous(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return an open-top box with 3 to 35 per cent of its cells solid at random."""
    grains = rng.random(tuple(shape)) < rng.uniform(0.03, 0.35)
    return domain(shape, solid=Shape(lambda x: grains), walls=_open_top(len(shape)))


def ball_packing(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return the pore space between random overlapping balls."""
    extent = np.asarray(shape, dtype=float)
    radius = max(1.5, float(np.min(extent)) * rng.uniform(0.06, 0.16))
    count = int(rng.uniform(0.2, 0.8) * np.prod(extent) / (4.2 * radius**3 if len(extent) == 3 else 3.2 * radius**2))
    indices = np.indices(tuple(shape)) + 0.5
    solid = np.zeros(tuple(shape), dtype=bool)
    for c in rng.random((count, len(extent))) * extent:
        low = np.maximum(0, (c - radius).astype(int))
        window = tuple(slice(a, a + int(2 * radius) + 3) for a in low)
        near = indices[(slice(None), *window)]
        solid[window] |= sum((near[d] - c[d]) ** 2 for d in range(len(extent))) < radius**2
    return domain(shape, solid=Shape(lambda x: solid), walls="air" if rng.random() < 0.5 else _open_top(len(shape)))


def baffles(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a box divided by thin walls, whose gaps mostly lie on alternating sides, so that the flow winds."""
    axis = int(rng.integers(0, len(shape)))
    across = int(rng.choice([d for d in range(len(shape)) if d != axis]))
    pitch = int(rng.integers(3, max(4, shape[axis] // 3)))
    thickness, gap = int(rng.integers(1, 3)), int(rng.integers(1, max(2, shape[across] // 6 + 1)))
    solid = np.zeros(tuple(shape), dtype=bool)
    for n, start in enumerate(range(pitch, shape[axis] - 1, pitch + thickness)):
        wall: list[slice] = [slice(None)] * len(shape)
        wall[axis] = slice(start, start + thickness)
        if rng.random() < 0.7:
            wall[across] = slice(gap, None) if n % 2 else slice(None, -gap)
            solid[tuple(wall)] = True
        else:
            solid[tuple(wall)] = True
            hole = [slice(c, c + gap) for c in rng.integers(0, np.maximum(1, np.asarray(shape) - gap))]
            hole[axis] = wall[axis]
            solid[tuple(hole)] = False
    return domain(shape, solid=Shape(lambda x: solid), walls="solid" if rng.random() < 0.3 else _open_top(len(shape)))


def chambers(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a box cut by closed walls into chambers, some sealed, with obstacles inside."""
    solid = np.zeros(tuple(shape), dtype=bool)
    for axis, n in enumerate(shape):
        if n >= 8 and rng.random() < 0.6:
            solid[(slice(None),) * axis + (int(rng.integers(2, n - 2)),)] = True
    stones = obstacles(shape, rng, 4)
    return domain(
        shape, solid=Shape(lambda x: solid) | stones, walls="solid" if rng.random() < 0.5 else _open_top(len(shape))
    )


def terrain(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return the air above a rough random terrain of smooth hills and steps."""
    return domain(
        shape,
        solid=height_field(_noise(shape[:-1], rng, 3) * 0.5 * shape[-1]),
        walls=["air", *_open_top(len(shape))[1:]],
    )


def splashes(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return drops and a ragged pool of liquid in air: level sets of smoothed noise above a pool."""
    noise = _noise(shape, rng, int(rng.integers(2, 5)))
    height = np.arange(shape[-1]) / shape[-1]
    liquid = noise > rng.uniform(0.2, 0.4) + rng.uniform(0.3, 0.8) * height
    return domain(shape, solid=obstacles(shape, rng, 4), air=Shape(lambda x: ~liquid))


def caves(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return the space between smooth random rocks: curved walls of every size."""
    rock = _noise(shape, rng, int(rng.integers(1, 5))) > rng.uniform(0.45, 0.75)
    return domain(shape, solid=Shape(lambda x: rock), walls=_open_top(len(shape)) if rng.random() < 0.7 else "solid")


def sheets(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a box with thin curved walls: bands around a level of smoothed noise, torn open here and there."""
    noise = _noise(shape, rng, int(rng.integers(1, 4)))
    wall = np.abs(noise - rng.uniform(0.4, 0.6)) < rng.uniform(0.015, 0.05)
    wall &= _noise(shape, rng, 3) < rng.uniform(0.5, 0.9)
    return domain(shape, solid=Shape(lambda x: wall), walls=_open_top(len(shape)))


def _noise(shape: Sequence[int], rng: np.random.Generator, octaves: int) -> NDArray[np.float64]:
    """Return a smooth random field in [0, 1]: a sum of linearly interpolated lattices, each of half the pitch."""
    total = np.zeros(tuple(shape))
    for octave in range(octaves):
        lattice = rng.random(tuple(min(n, 2 + 2 ** (octave + 1)) for n in shape))
        for axis, n in enumerate(shape):
            lattice = resample(lattice, axis, n)
        total += lattice / 2**octave
    low, high = total.min(), total.max()
    return np.asarray((total - low) / max(high - low, 1e-12))


def resample(field: NDArray[np.float64], axis: int, n: int) -> NDArray[np.float64]:
    """Interpolate linearly along one axis to n equidistant points, keeping the end points.

    Parameters
    ----------
    field : ndarray of float64
        Values at equidistant points.
    axis : int
        Axis to interpolate along.
    n : int
        Number of points, at least 1.

    Returns
    -------
    ndarray of float64
        The field with n entries along the axis.
    """
    t = np.linspace(0, field.shape[axis] - 1, n)
    low = np.minimum(t.astype(int), max(field.shape[axis] - 2, 0))
    high = np.minimum(low + 1, field.shape[axis] - 1)
    weight = (t - low).reshape([-1 if d == axis else 1 for d in range(field.ndim)])
    return np.asarray(np.take(field, low, axis) * (1 - weight) + np.take(field, high, axis) * weight)


def gyroid(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return one of the two channels of a gyroid (in 2D an egg-crate lattice): a smooth periodic pore space."""
    period = max(8.0, min(shape) * rng.uniform(0.25, 0.6))
    t = [
        2
        * np.pi
        * (np.arange(n).reshape([-1 if a == d else 1 for a in range(len(shape))]) + rng.random() * period)
        / period
        for d, n in enumerate(shape)
    ]
    field = sum(np.sin(t[d]) * np.cos(t[(d + 1) % len(t)]) for d in range(len(t)))
    solid = np.broadcast_to(np.asarray(field) > rng.uniform(0.2, 0.8), tuple(shape))
    return domain(shape, solid=Shape(lambda x: solid), walls=_open_top(len(shape)))


def maze(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a maze of corridors four cells wide between walls of one, along a random spanning tree; open top."""
    pitch = 5
    rooms = tuple(max(1, n // pitch) for n in shape)
    solid = np.ones(tuple(shape), dtype=bool)
    for room in itertools.product(*map(range, rooms)):
        solid[tuple(slice(pitch * c, pitch * c + pitch - 1) for c in room)] = False
    seen, stack = {(0,) * len(rooms)}, [(0,) * len(rooms)]
    while stack:
        here = stack[-1]
        steps = [(d, s) for d in range(len(rooms)) for s in (-1, 1)]
        rng.shuffle(steps)
        for d, s in steps:
            there = (*here[:d], here[d] + s, *here[d + 1 :])
            if 0 <= there[d] < rooms[d] and there not in seen:
                door = [slice(pitch * c, pitch * c + pitch - 1) for c in here]
                door[d] = slice(pitch * max(here[d], there[d]) - 1, pitch * max(here[d], there[d]))
                solid[tuple(door)] = False
                seen.add(there)
                stack.append(there)
                break
        else:
            stack.pop()
    solid[..., -1] &= solid[..., -2]
    return domain(shape, solid=Shape(lambda x: solid), walls=_open_top(len(shape)))


def city(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return the air between blocks of houses of random heights, open above and on two sides."""
    pitch, street = max(6, shape[0] // 8), max(2, shape[0] // 24)
    blocks = tuple(-(-n // pitch) for n in shape[:-1])
    heights = rng.uniform(0.1, 0.7, blocks) * shape[-1]
    for axis, n in enumerate(shape[:-1]):
        heights = np.take(np.repeat(heights, pitch, axis), range(n), axis)
        lanes = np.arange(n) % pitch < street
        heights[(slice(None),) * axis + (lanes,)] = 0
    return domain(shape, solid=height_field(heights), walls=["air", *_open_top(len(shape))[1:]])


def shells(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return an open-top box with thin hollow balls inside: pierced ones and sealed ones."""
    solid = NOTHING
    for _ in range(rng.integers(3, 8)):
        c, r = rng.random(len(shape)) * np.asarray(shape), min(shape) * rng.uniform(0.08, 0.22)
        shell = ball(c, r + 1.8) - ball(c, max(r - 0.2, 0.1))
        if rng.random() < 0.6:
            shell -= cylinder(c, max(1.5, 0.25 * r), axis=int(rng.integers(0, len(shape))))
        solid |= shell
    return domain(shape, solid=solid, walls=_open_top(len(shape)))


def nozzle(shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Return a channel that narrows and widens along the first axis; its inflow end is solid, its outflow end air."""
    length, throat = shape[0], rng.uniform(0.06, 0.25)
    phase, waves = rng.uniform(0, 2 * np.pi), rng.integers(1, 4)

    def contains(x: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
        width = throat + (0.5 - throat) * (0.5 + 0.5 * np.cos(2 * np.pi * waves * x[0] / length + phase))
        return np.asarray(sum(((a - n / 2) / n) ** 2 for a, n in zip(x[1:], shape[1:], strict=True)) < width**2)

    return domain(shape, solid=~Shape(contains), walls=[("solid", "air")] + ["solid"] * (len(shape) - 1))


TRAINING: dict[str, Family] = {
    "closed-cube": closed_cube,
    "open-top": open_top,
    "free-surface": free_surface,
    "mixed-walls": mixed_walls,
    "pure-neumann": pure_neumann,
    "porous": porous,
    "ball-packing": ball_packing,
    "baffles": baffles,
    "chambers": chambers,
    "terrain": terrain,
    "splashes": splashes,
    "caves": caves,
    "sheets": sheets,
}
HELD_OUT: dict[str, Family] = {"gyroid": gyroid, "maze": maze, "city": city, "shells": shells, "nozzle": nozzle}


def random_grid(family: str, shape: Sequence[int], rng: np.random.Generator) -> Grid:
    """Draw a domain of a named family.

    Parameters
    ----------
    family : str
        A key of `TRAINING` or `HELD_OUT`.
    shape : sequence of int
        Cells per axis, two or three.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    Grid
        A grid with at least one fluid cell.

    Raises
    ------
    ValueError
        If the family is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data import random_grid
    >>> random_grid("open-top", (16, 16, 16), np.random.default_rng(0)).shape
    (16, 16, 16)
    """
    known = TRAINING | HELD_OUT
    if family not in known:
        raise ValueError(f"family must be one of {', '.join(known)}; got {family!r}")
    for _ in range(100):
        grid = known[family](shape, rng)
        if grid.unknowns:
            return grid
    raise ValueError(f"no fluid cell in 100 domains of family {family!r} with shape {tuple(shape)}; use a larger shape")
