"""A refinement that lets PINA train on points that a sampler moves.

Coscia, Ivagnes, Demo, Rozza, "Physics-Informed Neural networks for Advanced modeling", Journal of Open Source Software
8(87), 2023. In PINA 0.3.2 the condition keeps the points of a refinement, but they never reach the batches, which are
cut from another copy; a batch of all points is cut only once. Here the points are written to that copy, and the data
are loaded again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepcd.pde.extras import advice
from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.adapters import pina_domains
from deepcd.solvers.pinn.adapters.turns import Turns
from deepcd.solvers.pinn.samplers import Sampler

_missing: ImportError | None = None
try:
    from pina import LabelTensor
    from pina.callback import BaseRefinement
except ImportError as error:
    BaseRefinement, _missing = object, error


class PINASampler(BaseRefinement):  # type: ignore[misc] # PINA has no types
    """Let a sampler choose the points of one condition, that of the PDE, on which a PINA solver is trained.

    Every `sample_every` epochs the residual is evaluated where the sampler needs it, the sampler learns from it, and
    its next points replace those of the condition. Until then the points of the discretised domain are used. The number
    of points stays; points reserved for validation or test are not moved. Any domain with a volume will do: the sampler
    is confined to what the domain calls inside, which leaves out its border. A
    class of domains with an `is_inside` of its own is asked point by point: the start then takes some ten seconds.

    The residual of several equations is the root of the sum of their squared residuals.

    Parameters
    ----------
    sampler : Sampler
        A sampler whose axes are the `input_variables` of the problem, in this order: space, then time, then parameters.
        Its box is one around the domain of the condition, or around a part of it, to which the points then move.
    condition : str
        Name of the condition in the problem.
    sample_every : int, default 100
        Number of epochs between two moves. As with all refinements of PINA, the first follows epoch `sample_every`,
        counted from zero.

    Raises
    ------
    ImportError
        If PINA 0.3 is not installed.
    TypeError
        If `sampler` is not a Sampler.
    ValueError
        If the sampler weights points instead of moving them; at the start of a training, if its box does not fit the
        domain, or the domain has no volume; or, during it, if a residual is not finite.
    RuntimeError
        If, at the start of a training, PINA finds that the solver is not physics-informed or has no such condition, or
        if, during it, the data did not accept the new points.

    Examples
    --------
    >>> from deepcd import pinn
    >>> from deepcd.solvers.pinn.adapters.pina import PINASampler
    >>> sampler = pinn.sampler("aas", bounds=[(-1, 1), (0, 1)], seed=0)
    >>> moving = PINASampler(sampler, "D", sample_every=100)  # doctest: +SKIP
    >>> Trainer(solver, max_epochs=10_000, callbacks=[moving]).train()  # doctest: +SKIP
    """

    def __init__(self, sampler: Sampler, condition: str, sample_every: int = 100) -> None:
        if _missing is not None:
            raise ImportError(f"PINASampler needs PINA 0.3, which is not installed: {advice('adapters')}") from _missing
        super().__init__(count("sample_every", sample_every), condition_to_update=condition)
        self._turns, self._dimension = Turns(sampler), len(sampler.bounds)
        self._condition = condition
        self._moved = False
        self._reload = 0

    def on_train_start(self, trainer: Any, solver: Any) -> None:
        """Confine the sampler to the domain of the condition."""
        super().on_train_start(trainer, solver)
        problem = solver.problem
        condition, axes = problem.conditions[self._condition], problem.input_variables
        if self._dimension != len(axes):
            raise ValueError(f"the sampler has {self._dimension} axes, but the problem {len(axes)}: {', '.join(axes)}")
        domain, points = problem.domains[condition.domain], condition.data.input
        if set(domain.variables) != set(axes):
            raise ValueError(
                f"condition {self._condition!r} must have a domain in {axes}, got one in {domain.variables}"
            )

        def inside(x: Tensor) -> Tensor:
            return pina_domains.inside(domain, x.to(points.dtype), axes)  # rounded as PINA's points are

        trained = points.extract(axes).as_subclass(Tensor).detach().cpu()[self.dataset[self._condition].indices]
        extent = pina_domains.extent(domain, axes)
        self._turns.confine(domain, inside, extent=extent, points=trained.to(torch.float64))

    def sample(self, current_points: Any, condition_name: str, solver: Any) -> Any:
        """Return the points of the condition, in which the sampler's next points replace those of the training.

        Parameters
        ----------
        current_points : LabelTensor, shape (n, d)
        condition_name : str
        solver : PINA solver

        Returns
        -------
        LabelTensor, shape (n, d)
            Points with the same labels, dtype and device.
        """
        condition = solver.problem.conditions[condition_name]
        axes, labels = solver.problem.input_variables, current_points.labels

        def labelled(x: Tensor) -> Any:
            return LabelTensor(x.to(current_points.dtype), axes).extract(labels)

        def residuals(x: Tensor) -> Tensor:
            f = condition.evaluate({"input": labelled(x).to(solver.device)}, solver)
            return f.detach().as_subclass(Tensor).flatten(1).cpu()

        trained = self.dataset[condition_name].indices
        points = current_points.detach().as_subclass(Tensor).clone()
        points[trained] = labelled(self._turns.points(len(trained), residuals)).as_subclass(Tensor).to(points.device)
        self._moved = True
        return LabelTensor(points, labels)

    def on_train_epoch_end(self, trainer: Any, solver: Any) -> None:
        """Move the points if `sample_every` epochs have passed, and have them loaded before the next epoch."""
        super().on_train_epoch_end(trainer, solver)
        if not self._moved:
            return
        data, dataset = solver.problem.conditions[self._condition].data, self.dataset[self._condition]
        data.data["input"] = data.input
        if not torch.equal(dataset.get_all_data().to_batch()["input"], data.input[dataset.indices]):
            raise RuntimeError("PINA's data did not take the new points, so training would go on without them")
        self._reload, trainer.reload_dataloaders_every_n_epochs = trainer.reload_dataloaders_every_n_epochs, 1

    def on_train_epoch_start(self, trainer: Any, solver: Any) -> None:
        """Restore the trainer's own interval between reloads."""
        if self._moved:
            trainer.reload_dataloaders_every_n_epochs, self._moved = self._reload, False
