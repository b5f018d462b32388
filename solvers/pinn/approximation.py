"""What a run leaves: fields as a network and expressions of it, which are evaluated, saved, loaded and handed on.

A saved one is a weight file (`deepcd.data.weight_files`) of architecture "pinn-fields/1": the tensors of the network,
and in the record names, bounds, unknowns and the expressions of the fields and of the residuals
(`deepcd.pde.equations.storage`). It is data: nothing in it is run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.data import weight_files
from deepcd.data.weight_files import WeightFileError
from deepcd.pde.equations.expressions import Expression
from deepcd.pde.equations.frames import Frame
from deepcd.pde.equations.storage import copied, restored, stored
from deepcd.pde.vtk import write_vti
from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.terms import Term

ARCHITECTURE = "pinn-fields/1"  # the number rises whenever tensors or record change
NUDGE = 1e-9  # part of the way to the centre by which points are moved to tell whether they are inside
SHAPES = {1: (1001,), 2: (201, 201), 3: (51, 51, 51)}  # points of a grid for ParaView, by the number of axes

Points = NDArray[np.float64]


class Approximation:
    """Fields that approximate the solution of a PDE; made by `deepcd.pinn.load`, and `deepcd.pinn.Run` is one.

    Parameters
    ----------
    network : Network
    frame : Frame
        Names of the axes and of the fields.
    values, residuals : sequence of Expression or float
        The fields, ansatz included, and what is zero where the equation holds, as expressions of the network's outputs.
    bounds : ndarray of float64, shape (d, 2)
        The low and the high end of each axis of the box around the domain.
    unknowns, deviation : mapping of str to float, optional
        Unknown parameters and their standard deviations.
    title : str
        The equation, for figures.

    Attributes
    ----------
    axes, fields : tuple of str
    network, frame, bounds, title
        As given.

    Examples
    --------
    >>> import tempfile
    >>> from deepcd import pinn
    >>> run = pinn.solve(lambda x, u: u.x + u, pinn.box(x=(0, 2)), start=lambda: 1.0, steps=20, width=8, depth=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run.save(f"{folder}/decay.safetensors")
    ...     loaded = pinn.load(f"{folder}/decay.safetensors")
    >>> loaded
    <Approximation u(x): u_x + u = 0>
    >>> loaded.predict([[1.0]]).round(4).tolist()
    [0.3679]
    """

    def __init__(
        self,
        network: Network,
        frame: Frame,
        values: Sequence[Any],
        residuals: Sequence[Any],
        *,
        bounds: Points,
        unknowns: Mapping[str, float] | None = None,
        deviation: Mapping[str, float] | None = None,
        title: str = "",
    ) -> None:
        self.network, self.frame, self.bounds, self.title = network, frame, bounds, title
        self.axes, self.fields = frame.axes, frame.fields
        self._expressions, self._residuals = list(values), list(residuals)
        self._terms = [Term(part, self.fields, len(self.axes)) for part in (self._expressions, self._residuals)]
        self._unknowns, self._deviation = dict(unknowns or {}), dict(deviation or {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.fields)}({', '.join(self.axes)}): {self.title}>"

    @property
    def unknowns(self) -> dict[str, float]:
        """The unknown parameters."""
        return dict(self._unknowns)

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviations of the unknown parameters, if the errors of observations are as stated by sigma."""
        return dict(self._deviation)

    def predict(self, x: Any, what: str | None = None) -> Points:
        """Return fields at points.

        Parameters
        ----------
        x : array_like of float, shape (n, d)
        what : str, optional
            A field or a derivative of one, such as "u" or "u.xx"; by default all fields.

        Returns
        -------
        ndarray of float64, shape (n,), or (n, m) for m fields

        Raises
        ------
        ValueError
            If x has another shape, or is not finite, or there is no such field or axis.
        """
        points = self._points(x)
        if what is not None:
            return self._evaluated(Term([self._expression(what)], self.fields, len(self.axes)), points)[0]
        values = self._values(points)
        return values[0] if len(values) == 1 else values.T

    def residual(self, x: Any) -> Points:
        """Return the residual of the equation at points, shape (n, d), as an array of shape (n,), or (n, m) for m.

        It is NaN or infinite where the equation is.
        """
        values = self._evaluated(self._terms[1], self._points(x))
        return values[0] if len(values) == 1 else values.T

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write fields, residuals and unknowns to a file, which `deepcd.pinn.load` reads.

        The domain is not in it, only the box around it.

        Parameters
        ----------
        path : path-like
            Such as "fields.safetensors", in a folder that exists. A crash leaves the old file or the new one.

        Raises
        ------
        ValueError
            If the equation has a function that cannot be saved, or a parameter of the network is not finite.
        OSError
            If the file cannot be written.
        """
        record = {
            "architecture": ARCHITECTURE,
            "title": self.title,
            "axes": list(self.axes),
            "fields": list(self.fields),
            "bounds": np.asarray(self.bounds).tolist(),
            "unknowns": self.unknowns,
            "deviation": self.deviation,
            "expressions": stored([*self._expressions, *self._residuals]),
        }
        tensors = {name: tensor.numpy() for name, tensor in self.network.state_dict().items() if tensor.numel()}
        weight_files.save(path, tensors, record)

    def to_vtk(self, path: str | os.PathLike[str], shape: Sequence[int] | None = None) -> None:
        """Write the fields and the size of the residual on a regular grid, as image data for ParaView.

        Time is an axis like the others. Values are NaN outside the domain; of one that was loaded only the box around
        the domain is known.

        Parameters
        ----------
        path : path-like
            A .vti file in a folder that exists.
        shape : sequence of int, optional
            Number of points along each axis, two at least; by default 1,001, 201 or 51, for one, two or three axes.

        Raises
        ------
        ValueError
            If there are more than three axes, or an argument is malformed.
        OSError
            If the file cannot be written; the old file stays.
        """
        d = len(self.axes)
        if d not in SHAPES:
            raise ValueError(f"files for ParaView have up to three axes, but there are {d}: {', '.join(self.axes)}")
        counts = SHAPES[d] if shape is None else tuple(count("a number of points", n, least=2) for n in shape)
        if len(counts) != d:
            raise ValueError(f"shape must have a number of points for each of {', '.join(self.axes)}, got {shape!r}")
        low, high = np.asarray(self.bounds).T
        sides = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
        x = np.stack([side.ravel() for side in np.meshgrid(*sides, indexing="ij")], axis=1)
        fields, residuals = self.masked(x)
        values = dict(zip(self.fields, fields, strict=True)) | {"residual": np.linalg.norm(residuals, axis=0)}
        grid = counts if d > 1 else (*counts, 1)
        spacing, origin = [(high - low) / (np.array(counts) - 1), low]
        pad = [1.0] * (len(grid) - d)
        arrays = {name: value.reshape(grid) for name, value in values.items()}
        write_vti(path, arrays, [*spacing, *pad], origin=[*origin, *(0 * p for p in pad)], nodes=True, compress=True)

    def masked(self, x: Points) -> tuple[Points, Points]:
        """Return the fields, shape (m, n), and the residuals, shape (k, n), at points; NaN outside the domain."""
        points = self._points(x)
        # Whether points on the boundary are inside is nobody's choice: those at the ends of an axis are to be.
        inside = self._inside(points + NUDGE * (torch.from_numpy(self.bounds.mean(axis=1)) - points))
        found = []
        for term in self._terms:
            values = np.full((term.size, len(x)), math.nan)
            values[:, inside.numpy()] = self._evaluated(term, points[inside])
            found.append(values)
        return found[0], found[1]

    def _inside(self, x: Tensor) -> Tensor:
        """Tell which points are in the domain, as far as it is known."""
        return torch.ones(len(x), dtype=torch.bool)

    def _values(self, x: Tensor) -> Points:
        """Return the fields at points, shape (m, n)."""
        return self._evaluated(self._terms[0], x)

    def _evaluated(self, term: Term, x: Tensor) -> Points:
        dtype = self.network.weights[0].dtype
        unknowns = {name: torch.tensor(value, dtype=dtype) for name, value in self.unknowns.items()}
        return term.values(self.network, x, unknowns).numpy()

    def _points(self, x: Any) -> Tensor:
        points = np.asarray(x, dtype=np.float64)
        d = len(self.axes)
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(
                f"x must have the shape (n, {d}), a column for each of {', '.join(self.axes)}, got {points.shape}"
            )
        if not np.isfinite(points).all():
            raise ValueError("x must be finite")
        return torch.from_numpy(points.copy())

    def _expression(self, what: str) -> Expression:
        """Return a field or a derivative of it.

        It is made in a frame of its own, so that factors come in an order that nothing else decides: what was loaded
        gives the same as what was saved, to the last bit.
        """
        field, *derivatives = what.split(".")
        if field not in self.fields:
            raise ValueError(f"{what!r} names no field: the fields are {', '.join(self.fields)}")
        node = copied(self._expressions, Frame(self.axes, self.fields))[self.fields.index(field)]
        for names in derivatives:
            axes = (names,) if names in self.axes else tuple(names)
            if not names or not set(axes) <= set(self.axes):
                raise ValueError(f"{what!r} names no derivative: the axes are {', '.join(self.axes)}")
            node = node.d(*axes) if isinstance(node, Expression) else 0
        return node


def load(path: str | os.PathLike[str]) -> Approximation:
    """Read fields that `Approximation.save` has written.

    They give the same numbers as those that were saved, to the last bit. Nothing in the file is ever run.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Approximation

    Raises
    ------
    WeightFileError
        If the file is missing, damaged, or holds anything else; a ValueError.
    """
    advice = "give a file that run.save has written"
    try:
        tensors, record = weight_files.load(path, ARCHITECTURE)
        return _approximation(tensors, record)
    except WeightFileError as error:
        raise WeightFileError(path, error.reason, advice) from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WeightFileError(path, f"holds no fields that can be evaluated ({error!s:.300})", advice) from error


def _approximation(tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> Approximation:
    axes, fields = (_names(record[key], key) for key in ("axes", "fields"))
    unknowns, deviation = (_numbers(record[key], key) for key in ("unknowns", "deviation"))
    if set(axes) & {*fields, *unknowns} or set(fields) & set(unknowns):
        raise ValueError("a name stands for two things")
    bounds = np.array(record["bounds"], dtype=np.float64)
    if bounds.shape != (len(axes), 2) or not (np.isfinite(bounds).all() and (bounds[:, 0] < bounds[:, 1]).all()):
        raise ValueError("bounds must be two increasing numbers for each axis")
    frame = Frame(axes, fields)
    expressions = restored(record["expressions"], frame, tuple(unknowns))
    if len(expressions) <= len(fields):
        raise ValueError("there must be an expression for each field, and residuals")
    return Approximation(
        Network.restored(bounds, len(fields), tensors),
        frame,
        expressions[: len(fields)],
        expressions[len(fields) :],
        bounds=bounds,
        unknowns=unknowns,
        deviation=deviation,
        title=str(record["title"]),
    )


def _names(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len({*value}) != len(value):
        raise ValueError(f"{key} must be a list of different names")
    if not all(isinstance(name, str) and name.isidentifier() for name in value):
        raise ValueError(f"{key} must be identifiers")
    return tuple(value)


def _numbers(value: Any, key: str) -> dict[str, float]:
    numbers = {str(name): float(number) for name, number in dict(value).items()}
    if not all(name.isidentifier() and math.isfinite(number) for name, number in numbers.items()):
        raise ValueError(f"{key} must be finite numbers by name")
    return numbers
