"""The network that represents u. It carries the derivatives that a residual needs through its layers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepcd.pde.problems.jets import Jet, Sums
from deepcd.solvers.pinn.tanh_jets import tanh_jets


class Network(nn.Module):
    """A tanh multilayer perceptron R^d -> R on a box, which is mapped to [-1, 1]^d first.

    A pass carries 1 + d + m fields through each layer: values, d first derivatives, and m sums of second derivatives
    (`Jet`). A loss of second derivatives is therefore a first-order graph, which one backward pass differentiates.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        Low and high end of each axis of the box.
    width, depth : int, default 30 and 3
        Number of units per hidden layer, and number of hidden layers.
    features : int, default 0
        Number of random Fourier features: cosines and sines of this many random linear forms replace the input (Tancik
        et al., NeurIPS 2020), which reduces the bias of the network towards smooth functions.
    frequency : float, default 1.0
        Standard deviation of the coefficients of these forms, in radians per half box.
    seed : int, default 0
        Seed of the initial weights (Glorot normal; biases are zero) and of the features.
    dtype : torch.dtype, default torch.float64
        Type of parameters and results.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.network import Network
    >>> u = Network([(-1, 1), (-1, 1)], seed=1)
    >>> x = torch.zeros(5, 2, dtype=torch.float64)
    >>> jet = u.jet(x, sums=((0, 1),))
    >>> jet.value.shape, jet.gradient.shape, jet.second.shape
    (torch.Size([5]), torch.Size([2, 5]), torch.Size([1, 5]))
    """

    _centre: Tensor
    _rate: Tensor
    _forms: Tensor

    def __init__(
        self,
        bounds: Any,
        *,
        width: int = 30,
        depth: int = 3,
        features: int = 0,
        frequency: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        box = torch.as_tensor(np.array(bounds, dtype=np.float64)).to(dtype)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("_centre", box.mean(dim=1))
        self.register_buffer("_rate", 2 / (box[:, 1] - box[:, 0]))
        d = len(box)
        forms = frequency * torch.randn(features, d, generator=generator, dtype=torch.float64)
        self.register_buffer("_forms", forms.to(dtype))
        sizes = [2 * features or d, *[width] * depth, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            spread = math.sqrt(2 / (inputs + outputs))
            weight = spread * torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(outputs, dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """Return u at points x, shape (n, d), as a tensor of shape (n,)."""
        h = (x - self._centre) * self._rate
        if len(self._forms):
            phase = h @ self._forms.T
            h = torch.cat([phase.cos(), phase.sin()], dim=1)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            h = torch.tanh(torch.addmm(bias, h, weight.T))
        return torch.addmm(last[1], h, last[0].T)[:, 0]

    def jet(self, x: Tensor, sums: Sums) -> Jet:
        """Return u at points x, shape (n, d), with its gradient and sums of second derivatives."""
        n, d = x.shape
        m = len(sums)
        fields = x.new_zeros(d, 1 + d + m, n)
        fields[:, 0] = ((x - self._centre) * self._rate).T
        for a in range(d):
            fields[a, 1 + a] = self._rate[a]
        if len(self._forms):
            phase = (self._forms @ fields.view(d, -1)).view(-1, 1 + d + m, n)
            gradient = phase[:, 1 : 1 + d]
            squares = torch.stack([(gradient[:, list(axes)] ** 2).sum(1) for axes in sums], 1) if m else phase[:, :0]
            c, s = phase[:, :1].cos(), phase[:, :1].sin()
            cosines = torch.cat([c, -s * gradient, -c * squares], dim=1)
            sines = torch.cat([s, c * gradient, -s * squares], dim=1)
            fields = torch.cat([cosines, sines])
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            fields = tanh_jets((weight @ fields.view(len(fields), -1)).view(-1, 1 + d + m, n), bias, sums)
        out = (last[0] @ fields.view(len(fields), -1)).view(1 + d + m, n)
        return Jet(out[0] + last[1], out[1 : 1 + d], out[1 + d :], sums)
