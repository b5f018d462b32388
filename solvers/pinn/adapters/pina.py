"""PINA trains on points that a sampler moves: a refinement in the place of its own.

Coscia, Ivagnes, Demo, Rozza, "Physics-Informed Neural networks for Advanced modeling", Journal of Open Source Software
8(87), 2023. In PINA 0.3.2 the points of a refinement are kept by the condition and never reach the batches: those are
cut from another copy, and a batch of all points is cut only once. So they are put there, and the loader is renewed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepcd.pde.extras import advice
from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.adapters.turns import Turns
from deepcd.solvers.pinn.samplers import Sampler

_missing: ImportError | None = None
try:
    from pina import LabelTensor
    from pina.callback import BaseRefinement
    from pina.domain import CartesianDomain
except ImportError as error:
    BaseRefinement, _missing = object, error


class PINASampler(BaseRefinement):  # type: ignore[misc] # PINA has no types
    """Let a sampler choose the points of one condition, that of the PDE, which a PINA solver is trained on.

    Every `sample_every` epochs the residual is evaluated where the sampler wants to know it, the sampler learns from
    it, and its next points replace those of the condition. Until then those of the discretised domain are used. The
    number of points stays; points set apart for validation or test stay where they are.

    The residual of several equations is the root of the sum of the squares of theirs.

    Parameters
    ----------
    sampler : Sampler
        Its axes are the `input_variables` of the problem, in this order: space, then time, then parameters. Its box
        has to lie in the domain of the condition.
    condition : str
        Name of the condition in the problem.
    sample_every : int, default 100
        Epochs between two moves. As all refinements of PINA, the first comes after epoch `sample_every`, counted from
        zero.

    Raises
    ------
    ImportError
        If PINA 0.3 is not installed.
    TypeError
        If the sampler is none.
    ValueError
        If the sampler weights points instead of moving them, or, at the start of a training, if its box does not fit
        the domain, or during it, if a residual is not finite.
    RuntimeError
        At the start of a training, if the solver is not physics-informed or has no such condition (by PINA), or during
        it, if the data did not take the new points.

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
        self._turns, self._bounds = Turns(sampler), sampler.bounds
        self._condition = condition
        self._moved = False
        self._reload = 0

    def on_train_start(self, trainer: Any, solver: Any) -> None:
        """Make sure that the sampler's box lies in the domain of the condition."""
        super().on_train_start(trainer, solver)
        problem = solver.problem
        domain = problem.domains[problem.conditions[self._condition].domain]
        axes, box = problem.input_variables, self._bounds.tolist()
        if not isinstance(domain, CartesianDomain) or set(domain.range) != set(axes):
            raise ValueError(f"condition {self._condition!r} must have a box in {axes} as its domain, got {domain!r}")
        if len(box) != len(axes):
            raise ValueError(f"the sampler has {len(box)} axes, but the problem {len(axes)}: {', '.join(axes)}")
        for axis, (low, high) in zip(axes, box, strict=True):
            least, most = domain.range[axis]
            if low < least or high > most:
                raise ValueError(f"the sampler's {axis} in [{low}, {high}] exceeds the domain's [{least}, {most}]")

    def sample(self, current_points: Any, condition_name: str, solver: Any) -> Any:
        """Return the points of the condition, those of the training replaced by the sampler's next ones.

        Parameters
        ----------
        current_points : LabelTensor, shape (n, d)
        condition_name : str
        solver : PINA solver

        Returns
        -------
        LabelTensor, shape (n, d)
            Of the same labels, dtype and device.
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
        """Move the points if it is time to, and have them loaded before the next epoch."""
        super().on_train_epoch_end(trainer, solver)
        if not self._moved:
            return
        data, dataset = solver.problem.conditions[self._condition].data, self.dataset[self._condition]
        data.data["input"] = data.input
        if not torch.equal(dataset.get_all_data().to_batch()["input"], data.input[dataset.indices]):
            raise RuntimeError("PINA's data did not take the new points, so training would go on without them")
        self._reload, trainer.reload_dataloaders_every_n_epochs = trainer.reload_dataloaders_every_n_epochs, 1

    def on_train_epoch_start(self, trainer: Any, solver: Any) -> None:
        """Load no more than that."""
        if self._moved:
            trainer.reload_dataloaders_every_n_epochs, self._moved = self._reload, False
