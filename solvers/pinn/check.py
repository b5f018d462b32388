"""A check of the planned derivatives, against nested differentiation of a small network at a few points."""

from __future__ import annotations

import torch

from deepcd.pde.equations.expressions import Expression, leaves
from deepcd.pde.equations.programs import nested
from deepcd.pde.equations.statements import Problem
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.terms import Term

POINTS = 3
ROUNDING = 1e-8  # largest difference, in units of the largest sum of sizes; fourth derivatives lose some digits


def check(problem: Problem) -> None:
    """Compare all residuals of a problem, as they are planned, with what nested differentiation gives.

    The function of the user is called again, and all its derivatives are left to torch. So the rules of differentiation
    are checked, the choice of derivatives, and how networks carry them.

    Parameters
    ----------
    problem : Problem

    Raises
    ------
    ArithmeticError
        If a residual differs.
    """
    d = problem.dimension
    generator = torch.Generator().manual_seed(0)
    network = Network(problem.bounds, outputs=len(problem.fields), width=4, depth=2, seed=0)
    x = problem.domain.points(POINTS, generator)

    def random() -> torch.Tensor:
        return torch.rand(POINTS, generator=generator, dtype=torch.float64)

    for planned, plain in zip(problem.terms, problem.traced(unexpanded=True), strict=True):
        term = Term(planned.residuals, problem.fields, d)
        free = {one for one in leaves(*planned.residuals, *plain.residuals) if one.op in ("normal", "data", "unknown")}
        given = {leaf: random() for leaf in sorted(free, key=lambda one: one.serial)}
        unknowns = {leaf.args[0]: value for leaf, value in given.items() if leaf.op == "unknown"}
        placed = term.place(network, x, given)
        rows, _ = network.run(placed.inputs, term.series)
        ours = term.residuals(placed, rows, unknowns)
        axes = [column.clone().requires_grad_() for column in x.T]
        u = _plain(network, torch.stack(axes, dim=1))
        frame = problem.frame
        known: dict[Expression, torch.Tensor] = {frame.axis(a): axes[i] for i, a in enumerate(problem.axes)}
        known |= {frame.field(f): u[:, k] for k, f in enumerate(problem.fields)}
        theirs, sizes = (values.detach() for values in nested(plain.residuals, known | given, axes))
        # Nested differentiation gives NaN where a branch of where has no derivative, though the branch is not taken.
        wrong = theirs.isfinite() & ~((ours - theirs).abs() <= ROUNDING * sizes.nan_to_num().amax(dim=1, keepdim=True))
        if wrong.any():
            k, i = wrong.nonzero()[0].tolist()
            raise ArithmeticError(
                f"residual {k + 1} of the {planned.name} is {float(ours[k, i]):.6g} by the planned derivatives, but "
                f"{float(theirs[k, i]):.6g} by nested differentiation: please report this equation"
            )


def _plain(network: Network, x: torch.Tensor) -> torch.Tensor:
    """Return the fields at points, shape (n, m), by operations that torch can differentiate any number of times."""
    h = (x - network.centre) * network.rate
    *hidden, last = zip(network.weights, network.biases, strict=True)
    for weight, bias in hidden:
        h = torch.tanh(h @ weight.T + bias)
    return h @ last[0].T + last[1]
