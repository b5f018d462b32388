"""A callback that lets DeepXDE train on points that a sampler moves.

Lu, Meng, Mao, Karniadakis, "DeepXDE: A deep learning library for solving differential equations", SIAM Review 63(1),
2021. Its own PDEPointResampler asks the geometry for points again, which are the same points if they are quasirandom,
the default (issue 1306 of DeepXDE). Here they come from the sampler, and the callback checks that the next batch holds
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.extras import advice
from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.adapters.turns import Turns
from deepcd.solvers.pinn.samplers import Inside, Sampler

_missing: ImportError | None = None
try:
    from deepxde import config
    from deepxde.callbacks import Callback
    from deepxde.data import FPDE, IDE, PDE
except ImportError as error:
    Callback, _missing = object, error


class DeepXDESampler(Callback):  # type: ignore[misc] # DeepXDE has no types
    """Let a sampler choose the interior points that a DeepXDE model is trained on.

    Every `period` iterations the residual is evaluated where the sampler needs it, the sampler learns from it, and its
    next points replace the interior ones. Until then DeepXDE's own points are used. The number of points stays. Any
    geometry with a volume will do, in time as well: the sampler is confined to what the geometry calls inside. The
    points on the boundary and at the initial time stay as well, both in the loss of the PDE and in those of the
    conditions.

    The residual of several PDEs is the root of the sum of their squared residuals, without the weights of the loss.
    Points that the data received as `anchors` are moved like others if they are in the interior.

    Parameters
    ----------
    sampler : Sampler
        A sampler whose axes are those of DeepXDE's points: space, then time. Its box is one around the geometry, or
        around a part of it, to which the points then move. Where there is a GPU, which DeepXDE makes the default,
        create the sampler under ``with torch.device("cpu"):``.
    period : int, default 100
        Number of iterations between two moves. L-BFGS calls callbacks only every 1000 iterations, or every
        `iter_per_step` iterations if that option is set. With TensorFlow it never calls them, so the points stay.

    Raises
    ------
    ImportError
        If DeepXDE is not installed.
    TypeError
        If `sampler` is not a Sampler or, at the start of a training, if the data are not a `deepxde.data.PDE` or
        `TimePDE`.
    ValueError
        If the sampler weights points instead of moving them; at the start of a training, if its box does not fit the
        geometry, the geometry has no volume, or there are no interior points; or, during it, if a residual is not
        finite.
    RuntimeError
        If, during a training, something else changed the points, or the data did not accept them.

    Examples
    --------
    >>> from deepcd import pinn
    >>> from deepcd.solvers.pinn.adapters.deepxde import DeepXDESampler
    >>> sampler = pinn.sampler("aas", bounds=[(-1, 1), (0, 1)], seed=0)
    >>> moving = DeepXDESampler(sampler, period=100)  # doctest: +SKIP
    >>> model.train(iterations=10_000, callbacks=[moving])  # doctest: +SKIP
    """

    def __init__(self, sampler: Sampler, period: int = 100) -> None:
        if _missing is not None:
            raise ImportError(
                f"DeepXDESampler needs DeepXDE, which is not installed: {advice('adapters')}"
            ) from _missing
        super().__init__()
        self._turns, self._dimension = Turns(sampler), len(sampler.bounds)
        self._period = count("period", period)
        self._last = 0
        self._placed: Any = None

    def init(self) -> None:
        """Start counting iterations when DeepXDE sets the model."""
        self._last = self.model.train_state.iteration

    def on_train_begin(self) -> None:
        """Separate the points that stay from those to be moved, and confine the sampler to the geometry."""
        data = self.model.data
        if not isinstance(data, PDE) or isinstance(data, (FPDE, IDE)) or data.pde is None:
            raise TypeError(f"the data must be a deepxde.data.PDE or TimePDE with a pde, got {type(data).__name__}")
        if data.geom.dim != self._dimension:
            raise ValueError(f"the sampler has {self._dimension} axes, but the geometry {data.geom.dim}, time included")
        if data.train_x_all is self._placed:
            return  # trained before: a moved point that is now close to the boundary is still to be moved
        placed = data.train_x_all
        stay = data.geom.on_boundary(placed)
        if hasattr(data.geom, "on_initial"):
            stay |= data.geom.on_initial(placed)
        if stay.all():
            raise ValueError("there are no interior points to be moved: give num_domain to the data")
        moving = torch.from_numpy(placed[~stay].astype(np.float64))
        self._turns.confine(data.geom, _inside(data.geom), extent=_extent(data.geom), points=moving)
        self._placed, self._stay, self._n = placed, placed[stay], len(moving)

    def on_epoch_end(self) -> None:
        """Move the points if `period` iterations have passed."""
        iteration = self.model.train_state.iteration
        if iteration - self._last < self._period:
            return
        self._last = iteration
        data = self.model.data
        if data.train_x_all is not self._placed:
            raise RuntimeError("something else changed the training points: leave out other resamplers of PDE points")
        x = self._turns.points(self._n, self._residuals).numpy().astype(config.real(np))
        data.replace_with_anchors(np.vstack([self._stay, x]))
        if not np.array_equal(data.train_next_batch()[0][-self._n :], x):
            raise RuntimeError(f"{type(data).__name__} did not take the new points, so training would go on without")
        self._placed = data.train_x_all

    def _residuals(self, x: Tensor) -> Tensor:
        """Return the residuals of all PDEs at points, with one or more columns for each PDE."""
        f = self.model.predict(x.numpy(), operator=self.model.data.pde)
        parts = f if isinstance(f, list) else [f]
        return torch.from_numpy(np.hstack([np.asarray(part, dtype=np.float64).reshape(len(x), -1) for part in parts]))


def _inside(geometry: Any) -> Inside:
    """Return whether points are inside the geometry, boundary included, once they are rounded as DeepXDE does."""

    def inside(x: Tensor) -> Tensor:
        points = x.numpy().astype(config.real(np))
        if not hasattr(geometry, "timedomain"):
            held = geometry.inside(points)
        else:
            held = geometry.geometry.inside(points[:, :-1]) & geometry.timedomain.inside(points[:, -1:])
        return torch.from_numpy(np.asarray(held, dtype=bool))

    return inside


def _extent(geometry: Any) -> Tensor:
    """Return the bounding box of the geometry, shape (d, 2), time included."""
    parts = [geometry.geometry, geometry.timedomain] if hasattr(geometry, "timedomain") else [geometry]
    ends = [np.concatenate([np.ravel(part.bbox[end]) for part in parts]) for end in (0, 1)]
    return torch.from_numpy(np.stack(ends, axis=1).astype(np.float64))
