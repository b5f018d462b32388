"""Functions with their derivatives, which the rules of calculus carry along, without nested differentiation.

A `Jet` holds, at n points, the value of a function, its gradient, and chosen sums of its second derivatives: L_k f is
the sum of d^2 f / dx_a^2 over the axes a in S_k. The PDEs here need no more than that; the Laplacian is one such sum,
over all axes. A sum obeys

    L_k (f g)  = f L_k g + g L_k f + 2 sum_a (df/dx_a) (dg/dx_a)
    L_k phi(f) = phi'(f) L_k f + phi''(f) sum_a (df/dx_a)^2

so a Laplacian in d dimensions costs as much as d + 2 functions, and a single backward pass differentiates the result
(the forward Laplacian: Li et al., "A computational framework for neural network-based variational Monte Carlo
with Forward Laplacian", Nature Machine Intelligence 6, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Sums = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Jet:
    """A function at n points.

    Attributes
    ----------
    value : Tensor, shape (n,)
    gradient : Tensor, shape (d, n)
    second : Tensor, shape (m, n)
        One sum of second derivatives per entry of `sums`.
    sums : tuple of m tuples of int
        The set S_k of axes that each sum runs over.

    Examples
    --------
    The function x y^2 at the point (2, 3), with its Laplacian 2 x:

    >>> import torch
    >>> from deepcd.pde.problems.jets import coordinates
    >>> x, y = coordinates(torch.tensor([[2.0, 3.0]]), sums=((0, 1),))
    >>> f = x * y * y
    >>> f.value.tolist(), f.gradient[:, 0].tolist(), f.second.tolist()
    ([18.0], [9.0, 12.0], [[4.0]])
    """

    value: Tensor
    gradient: Tensor
    second: Tensor
    sums: Sums

    def __add__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.gradient, self.second, self.sums)
        return Jet(self.value + other.value, self.gradient + other.gradient, self.second + other.second, self.sums)

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Jet | float) -> Jet:
        return self + -other

    def __rsub__(self, other: float) -> Jet:
        return -self + other

    def __mul__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, self.gradient * other, self.second * other, self.sums)
        f, g = self, other
        cross = f.gradient * g.gradient
        return Jet(
            f.value * g.value,
            f.value * g.gradient + g.value * f.gradient,
            f.value * g.second + g.value * f.second + 2 * _summed(cross, self.sums),
            self.sums,
        )

    def __truediv__(self, other: Jet | float) -> Jet:
        return self * other.reciprocal() if isinstance(other, Jet) else self * (1 / other)

    __radd__, __rmul__ = __add__, __mul__

    def __pow__(self, exponent: int) -> Jet:
        if exponent != int(exponent) or exponent < 1:
            raise ValueError(f"the exponent must be a positive integer, got {exponent!r}; see reciprocal and exp")
        x, k = self.value, exponent
        return self.mapped(x**k, k * x ** (k - 1), k * (k - 1) * x ** (k - 2) if k > 1 else torch.zeros_like(x))

    def mapped(self, value: Tensor, first: Tensor, second: Tensor) -> Jet:
        """Return phi(f) for this function f, given phi, phi' and phi'' at the values of f."""
        squares = _summed(self.gradient**2, self.sums)
        return Jet(value, first * self.gradient, first * self.second + second * squares, self.sums)

    def reciprocal(self) -> Jet:
        """Return one over this function."""
        y = 1 / self.value
        return self.mapped(y, -(y**2), 2 * y**3)

    def exp(self) -> Jet:
        """Return the exponential of this function."""
        y = self.value.exp()
        return self.mapped(y, y, y)

    def sin(self) -> Jet:
        """Return the sine of this function."""
        s, c = self.value.sin(), self.value.cos()
        return self.mapped(s, c, -s)

    def cos(self) -> Jet:
        """Return the cosine of this function."""
        s, c = self.value.sin(), self.value.cos()
        return self.mapped(c, -s, -c)

    def tanh(self) -> Jet:
        """Return the hyperbolic tangent of this function."""
        t = self.value.tanh()
        first = 1 - t**2
        return self.mapped(t, first, -2 * t * first)


def _summed(terms: Tensor, sums: Sums) -> Tensor:
    """Sum terms, one per axis, over each set of axes."""
    if not sums:
        return terms[:0]
    everything = tuple(range(len(terms)))
    return torch.stack([(terms if axes == everything else terms[list(axes)]).sum(0) for axes in sums])


def coordinates(x: Tensor, sums: Sums) -> list[Jet]:
    """Return the coordinates of points as functions.

    Parameters
    ----------
    x : Tensor, shape (n, d)
    sums : tuple of tuples of int
        Sums of second derivatives to carry along; empty for an equation of first order.

    Returns
    -------
    list of d Jets
    """
    n, d = x.shape
    eye = torch.eye(d, dtype=x.dtype)
    zero = torch.zeros(len(sums), n, dtype=x.dtype)
    return [Jet(x[:, i], eye[:, i : i + 1].expand(d, n), zero, sums) for i in range(d)]
