"""The tanh of a layer, compiled, for values and derivatives at once, with a gradient written by hand.

It is `Jet.tanh`, applied to the fields of all units of a layer. The gradient itself cannot be differentiated again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.problems.jets import Sums
from deepcd.solvers.kernels import tanh_jets as kernels


class _TanhJets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fields: Tensor, bias: Tensor, member: Any) -> Tensor:
        t = torch.tanh(fields[:, 0] + bias[:, None])
        out = torch.empty_like(fields)
        kernels.forward(t.numpy(), fields.numpy(), member, out.numpy())
        ctx.save_for_backward(t, fields)
        ctx.member = member
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        t, fields = ctx.saved_tensors
        out = torch.empty_like(fields)
        kernels.backward(t.numpy(), fields.numpy(), ctx.member, gradient.contiguous().numpy(), out.numpy())
        return out, out[:, 0].sum(dim=1), None


def tanh_jets(fields: Tensor, bias: Tensor, sums: Sums) -> Tensor:
    """Add a bias to the values of functions, and return their tanh with its derivatives.

    Parameters
    ----------
    fields : Tensor, shape (width, 1 + d + m, n)
        Values, first derivatives and sums of second derivatives of `width` functions at n points. Contiguous.
    bias : Tensor, shape (width,)
    sums : tuple of m tuples of int
        The set of axes that each sum of second derivatives runs over.

    Returns
    -------
    Tensor, of the shape of `fields`

    Examples
    --------
    The tanh of z with z = 0.5, dz/dx = 2 and d^2z/dx^2 = 0:

    >>> import torch
    >>> from deepcd.solvers.pinn.tanh_jets import tanh_jets
    >>> tanh_jets(torch.tensor([[[0.5], [2.0], [0.0]]]), torch.zeros(1), ((0,),)).ravel().round(decimals=2)
    tensor([ 0.4600,  1.5700, -2.9100])
    """
    d = fields.shape[1] - 1 - len(sums)
    member = np.array([[a in axes for a in range(d)] for axes in sums], dtype=np.bool_).reshape(len(sums), d)
    result: Tensor = _TanhJets.apply(fields, bias, member)
    return result
