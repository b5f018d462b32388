"""The network that represents the fields. It carries the derivatives that a residual needs through its layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepcd.solvers.kernels import per_sample, tanh_series
from deepcd.solvers.pinn.series import Series

Tape = list[tuple[Tensor, Tensor]]  # for each layer, the series that enter it, and those that leave its tanh


class Network(nn.Module):
    """A tanh multilayer perceptron R^d -> R^m on a box, which is mapped to [-1, 1]^d first.

    A pass carries a Taylor series for each unit (`Series`), so that any derivative up to fourth order comes out of one
    forward pass, and one backward pass differentiates a loss of derivatives.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        Low and high end of each axis of the box.
    outputs : int, default 1
        Number of fields.
    width, depth : int, default 20 and 3
        Number of units per hidden layer, and number of hidden layers.
    periodic : mapping of int to float, optional
        The axes along which the fields are periodic, with their periods. Such a coordinate enters as cosines and sines,
        so that the fields are periodic whatever the weights are.
    harmonics : int, default 3
        Number of cosines and sines of each periodic axis.
    seed : int, default 0
        Seed of the initial weights (Glorot normal; biases are zero).
    dtype : torch.dtype, default torch.float64
        Type of parameters and results.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.network import Network
    >>> from deepcd.solvers.pinn.series import Series
    >>> u = Network([(-1, 1), (-1, 1)], seed=1)
    >>> x = torch.zeros(5, 2, dtype=torch.float64)
    >>> u(x).shape
    torch.Size([1, 5])
    >>> series = Series([(0, 2)], d=2)
    >>> u.series(u.inputs(x, series), series).shape
    torch.Size([1, 3, 5])
    """

    centre: Tensor
    rate: Tensor
    _waves: Tensor

    def __init__(
        self,
        bounds: Any,
        *,
        outputs: int = 1,
        width: int = 20,
        depth: int = 3,
        periodic: Mapping[int, float] | None = None,
        harmonics: int = 3,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        box = torch.as_tensor(np.array(bounds, dtype=np.float64))
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("centre", box.mean(dim=1).to(dtype))
        self.register_buffer("rate", (2 / (box[:, 1] - box[:, 0])).to(dtype))
        waves = torch.zeros(0, len(box), dtype=torch.float64)
        for axis, period in (periodic or {}).items():
            for k in range(1, harmonics + 1):
                wave = torch.zeros(1, len(box), dtype=torch.float64)
                wave[0, axis] = 2 * math.pi * k / period
                waves = torch.cat([waves, wave])
        self.register_buffer("_waves", waves.to(dtype))
        self._straight = [i for i in range(len(box)) if i not in (periodic or {})]
        sizes = [len(self._straight) + 2 * len(waves), *[width] * depth, outputs]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, units in pairwise(sizes):
            spread = math.sqrt(2 / (inputs + units))
            weight = spread * torch.randn(units, inputs, generator=generator, dtype=torch.float64)
            self.weights.append(nn.Parameter(weight.to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(units, dtype=dtype)))

    @classmethod
    def restored(cls, bounds: Any, outputs: int, tensors: Mapping[str, NDArray[Any]]) -> Network:
        """Return the network whose tensors these are.

        Parameters
        ----------
        bounds, outputs
            See `Network`.
        tensors : mapping of str to ndarray
            What ``state_dict()`` held; empty ones may be missing.

        Raises
        ------
        ValueError
            If they are not those of such a network. Nothing larger than they are is allocated before that.
        """
        d, depth = len(bounds), sum(name.startswith("weights.") for name in tensors) - 1
        waves = tensors.get("_waves", np.zeros((0, d)))
        width = len(tensors.get("biases.0", ()))
        periodic = [i for i in range(d) if waves.ndim == 2 and waves.shape[1] == d and waves[:, i].any()]
        sizes = [d - len(periodic) + 2 * len(waves), *[width] * depth, outputs]
        expected: dict[str, tuple[int, ...]] = {"centre": (d,), "rate": (d,)}
        expected |= {"_waves": (len(waves), d)} if periodic else {}
        for k, (inputs, units) in enumerate(pairwise(sizes)):
            expected |= {f"weights.{k}": (units, inputs), f"biases.{k}": (units,)}
        found = {name: tensor.shape for name, tensor in tensors.items()}
        kinds = {tensor.dtype.name for tensor in tensors.values()}
        if found != expected or depth < 1 or len(kinds) != 1 or not kinds <= {"float32", "float64"}:
            raise ValueError(
                f"its tensors are not those of a network with {d} axes and {outputs} fields: {found!s:.200}"
            )
        network = cls(
            bounds,
            outputs=outputs,
            width=width,
            depth=depth,
            periodic=dict.fromkeys(periodic, 1.0),
            harmonics=len(waves) // max(len(periodic), 1),
            dtype=torch.float64 if "float64" in kinds else torch.float32,
        )
        if len(network._waves) != len(waves):
            raise ValueError(f"{len(waves)} waves are not as many for each of {len(periodic)} periodic axes")
        state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
        network.load_state_dict(network.state_dict() | state)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Return the fields at points x, shape (n, d), as a tensor of shape (m, n)."""
        series = Series((), d=x.shape[1])
        return self.series(self.inputs(x, series), series)[:, 0]

    def inputs(self, x: Tensor, series: Series) -> Tensor:
        """Return the series of what enters the first layer, shape (inputs, rows, n); no parameter decides it."""
        straight = [
            series.of_coordinate((x[:, i] - self.centre[i]) * self.rate[i], i, float(self.rate[i]))
            for i in self._straight
        ]
        parts = [torch.stack(straight)] if straight else []
        if len(self._waves):
            phase = self._waves @ (x - self.centre).T
            parts += [series.of_waves(phase, self._waves), series.of_waves(phase - math.pi / 2, self._waves)]
        return torch.cat(parts)

    def series(self, fields: Tensor, series: Series) -> Tensor:
        """Return the series of the fields, shape (m, rows, n), from those of the inputs; torch can differentiate it."""
        result: Tensor = _Pass.apply(self, series, fields, *self.weights, *self.biases)
        return result

    def run(self, fields: Tensor, series: Series) -> tuple[Tensor, Tape]:
        """Return the series of the fields, and what `pull` needs to go back; nothing is recorded by torch."""
        tape: Tape = []
        *_, last = layers = [(w.detach(), b.detach()) for w, b in zip(self.weights, self.biases, strict=True)]
        for weight, bias in layers:
            z = (weight @ fields.reshape(len(fields), -1)).view(len(weight), len(series), -1)
            z[:, 0] += bias[:, None]
            if weight is last[0]:
                tape.append((fields, z))
                return z, tape
            w = torch.empty_like(z)
            torch.tanh(z[:, 0], out=w[:, 0])
            tanh_series.run(z.numpy(), w.numpy(), *series.forward, series.slots, w.numpy())
            tape.append((fields, w))
            fields = w
        raise AssertionError("a network has a last layer")

    def pull(self, tape: Tape, cotangent: Tensor, series: Series) -> list[Tensor]:
        """Return the cotangents of what each layer computes before its tanh, from that of the fields."""
        found = [cotangent]
        for layer in range(len(tape) - 1, 0, -1):
            weight, w = self.weights[layer].detach(), tape[layer][0]
            g = (weight.T @ found[-1].reshape(len(weight), -1)).view(w.shape)
            out = torch.empty_like(w)
            tanh_series.run(g.numpy(), w.numpy(), *series.backward, series.slots, out.numpy())
            found.append(out)
        return found[::-1]

    def jacobian(self, tape: Tape, cotangents: list[Tensor], scale: Tensor, out: Tensor) -> None:
        """Set out, shape (parameters, n), to the derivatives of n residuals by all weights and biases, times a scale.

        Points do not interact, so the cotangents of the sum of all residuals are those of each residual at its own
        point, and a derivative by a weight is the product of the cotangent of its unit with what enters by it.
        """
        first = 0
        for (fields, _), g in zip(tape, cotangents, strict=True):
            units, inputs = len(g), len(fields)
            last = first + units * inputs
            per_sample.products(g.numpy(), fields.numpy(), scale.numpy(), out[first:last].numpy())
            torch.mul(g[:, 0], scale, out=out[last : last + units])
            first = last + units


class _Pass(torch.autograd.Function):
    """A pass of the network whose gradient by all weights and biases is written out."""

    @staticmethod
    def forward(ctx: Any, network: Network, series: Series, fields: Tensor, *_parameters: Tensor) -> Tensor:
        out, tape = network.run(fields, series)
        ctx.network, ctx.series, ctx.tape = network, series, tape
        return out.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        cotangents = ctx.network.pull(ctx.tape, cotangent.contiguous(), ctx.series)
        pairs = [(g.reshape(len(g), -1), f.reshape(len(f), -1)) for g, (f, _) in zip(cotangents, ctx.tape, strict=True)]
        return None, None, None, *(g @ f.T for g, f in pairs), *(g[:, 0].sum(1) for g in cotangents)
