"""Truncated Taylor series in several variables: which coefficients a layer carries, and what its tanh does to them.

A function near a point is the sum over multi-indices a of its coefficients f_a = D^a f / a! times h^a. A residual needs
some derivatives; a series carries these and all below them (every b <= a), the smallest set that products and
compositions close. For the mixed derivatives of elasticity that is 6 rows and for the biharmonic operator 13, where
sums over directions carry 9 and 17.

With w = tanh(z) and v = 1 - w^2, the identity dw = v dz holds coefficient by coefficient:

    a_i w_a = sum over 0 < b <= a of b_i z_b v_(a-b)     for each axis i with a_i > 0,

and for the same reason the adjoint is one correlation with the same v: z'_b = sum over a >= b of w'_a v_(a-b). Both are
linear in the coefficients of highest order. Where an equation needs only a weighted sum of some of these, such as the
Laplacian, the series carries the sum in their place (collapsed Taylor mode: Dangel, Siebert, Zeinhofer, Walther,
NeurIPS 2025, arXiv 2505.13644).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.equations.expressions import Index
from deepcd.solvers.kernels import tanh_series as kernels

Sum = tuple[tuple[Index, float], ...]  # a weighted sum of derivatives
Product = tuple[int, int, float]  # two rows, and the factor of their product
Line = tuple[int, int, tuple[Product, ...]]  # kind, target, and none, one or two products
Code = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Series:
    """The coefficients that are carried, one row each, and the instructions of the compiled tanh.

    Parameters
    ----------
    needed : iterable of multi-indices
        Derivatives that are needed on their own.
    sums : sequence of tuples of (multi-index, weight)
        Weighted sums of derivatives that are needed only as such. None of these multi-indices is at or below a needed
        one, or below another one of a sum.
    d : int
        Number of axes.

    Attributes
    ----------
    rows : tuple of multi-indices
        Those with rows of their own; the first is zero, the value. The rows of the sums follow.

    Examples
    --------
    >>> from deepcd.solvers.pinn.series import Series
    >>> Series([(2, 2)], d=2).rows
    ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (1, 2), (2, 1), (2, 2))
    >>> len(Series([], [(((2, 0), 1.0), ((0, 2), 1.0))], d=2))
    4
    """

    needed: Iterable[Index]
    sums: Sequence[Sum] = ()
    d: int = 1
    rows: tuple[Index, ...] = field(init=False)
    forward: Code = field(init=False)
    backward: Code = field(init=False)
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        """Close the set of multi-indices, and write the instructions."""
        tops = [index for one in self.sums for index, _ in one]
        closed = {(0,) * self.d} | {b for a in self.needed for b in _below(a)}
        closed |= {b for a in tops for b in _below(a) if b != a}
        if wrong := closed & set(tops):
            raise ValueError(f"{wrong} are carried on their own, so they cannot be collapsed to a sum")
        rows = tuple(sorted(closed, key=lambda a: (sum(a), a)))
        object.__setattr__(self, "rows", rows)
        writer = _Writer(rows, self.sums)
        object.__setattr__(self, "forward", writer.forward())
        object.__setattr__(self, "backward", writer.backward())
        object.__setattr__(self, "slots", len(writer.slots))

    def __len__(self) -> int:
        """Return the number of rows, those of the sums included."""
        return len(self.rows) + len(self.sums)

    def row(self, index: Index) -> int:
        """Return the row of a multi-index."""
        return self.rows.index(index)

    def of_waves(self, phase: Tensor, slope: Tensor) -> Tensor:
        """Return the series of cosines of linear functions.

        Parameters
        ----------
        phase : Tensor, shape (m, n)
            The linear functions b . x + c at n points.
        slope : Tensor, shape (m, d)
            Their slopes b.

        Returns
        -------
        Tensor, shape (m, rows, n)
        """
        highest = max([sum(a) for a in self.rows] + [sum(a) for one in self.sums for a, _ in one])
        turned = [torch.cos(phase + k * math.pi / 2) for k in range(highest + 1)]  # the derivatives of the cosine

        def one(index: Index) -> Tensor:
            scale = (slope ** torch.tensor(index, dtype=slope.dtype)).prod(dim=1) / factorial(index)
            return scale[:, None] * turned[sum(index)]

        sums = [torch.stack([factorial(a) * c * one(a) for a, c in terms]).sum(0) for terms in self.sums]
        return torch.stack([*map(one, self.rows), *sums], dim=1)

    def of_coordinate(self, values: Tensor, axis: int, slope: float) -> Tensor:
        """Return the series of a linear function of one coordinate, shape (rows, n), from its values, shape (n,)."""
        out = values.new_zeros(len(self), len(values))
        out[0] = values
        first = tuple(int(i == axis) for i in range(self.d))
        if first in self.rows:
            out[self.row(first)] = slope
        for k, terms in enumerate(self.sums):  # a sum of first derivatives
            out[len(self.rows) + k] = slope * sum(c for a, c in terms if a == first)
        return out


def factorial(index: Index) -> int:
    """Return a! of a multi-index."""
    return math.prod(map(math.factorial, index))


def _below(index: Index) -> Iterable[Index]:
    """Return all b <= a."""
    return itertools.product(*(range(k + 1) for k in index))


def _less(a: Index, b: Index) -> Index:
    return tuple(i - j for i, j in zip(a, b, strict=True))


class _Writer:
    """Writes the instructions of `deepcd.solvers.kernels.tanh_series` for a set of rows.

    Each target is a row after the first, as the terms c_a f_a that add up to it. A slot holds a coefficient of v, or
    the same sum of them as a target.
    """

    def __init__(self, rows: Sequence[Index], sums: Sequence[Sum]) -> None:
        self.row = {a: i for i, a in enumerate(rows)}
        self.targets = [[(a, 1.0)] for a in rows[1:]]
        self.targets += [[(a, c * factorial(a)) for a, c in terms] for terms in sums]  # of D^a f = a! f_a
        self.slots: dict[Any, int] = {(0,) * len(rows[0]): 0}

    def forward(self) -> Code:
        """Return what computes w from z."""
        lines: list[Line] = []
        for t, terms in enumerate(self.targets, start=1):
            products: dict[tuple[int, Any], float] = {}
            for a, c in terms:
                i = max(range(len(a)), key=lambda j: a[j])  # the axis that leaves most products out
                for b in _below(a):
                    if b != a and b[i] > 0:
                        key = self.row[b], _less(a, b)
                        products[key] = products.get(key, 0.0) + c * b[i] / a[i]
            for _, index in products:
                self._define(index, self.row[index], [(index, 1.0)], lines)
            self._set(t, products, lines)
        return _packed(lines)

    def backward(self) -> Code:
        """Return what computes the cotangent of z from that of w."""
        self.slots = {index: 0 for index, slot in self.slots.items() if not slot}
        lines: list[Line] = []
        products: list[dict[tuple[int, Any], float]] = [{} for _ in range(len(self.targets) + 1)]
        for t, terms in enumerate(self.targets, start=1):
            whole: Any = terms[0][0] if t < len(self.row) else t
            self._define(whole, t, terms, lines)
            products[0][t, whole] = 1.0
            for a, c in terms:
                for b in _below(a):
                    if b != a and any(b):
                        own, key = products[self.row[b]], (t, _less(a, b))
                        own[key] = own.get(key, 0.0) + c
        for t, own in enumerate(products):
            self._set(t, own, lines)
        return _packed(lines)

    def _set(self, target: int, products: Mapping[tuple[int, Any], float], lines: list[Line]) -> None:
        """Write that a row is that of x times v_0, plus products of rows of x with coefficients of v."""
        first = [(x, self.row[key], c) for (x, key), c in products.items() if self._is_first(key)]
        lines.append((kernels.OPEN, target, (first[0],)) if first else (kernels.START, target, ()))
        lines += _in_pairs(kernels.BEND, kernels.BENDS, target, first[1:])
        lines += [
            (kernels.ADD, target, ((x, self.slots[key], c),))
            for (x, key), c in products.items()
            if not self._is_first(key)
        ]

    @staticmethod
    def _is_first(key: Any) -> bool:
        """Return whether a coefficient of v is of first order: then it is -2 w_0 w_a, and needs no slot."""
        return isinstance(key, tuple) and sum(key) == 1

    def _define(self, key: Any, row: int, terms: Sequence[tuple[Index, float]], lines: list[Line]) -> None:
        """Write v_a = -2 w_0 w_a - the sum of w_b w_(a-b) over 0 < b < a, or a sum of these, unless it is there."""
        if key in self.slots or self._is_first(key):
            return
        self.slots[key] = slot = len(self.slots)
        pairs: dict[tuple[int, int], float] = {}
        for a, c in terms:
            for b in _below(a):
                if any(b) and b != a:
                    i, j = sorted((self.row[b], self.row[_less(a, b)]))
                    pairs[i, j] = pairs.get((i, j), 0.0) - c
        lines.append((kernels.BEGIN, slot, ((row, 0, 1.0),)))
        lines += _in_pairs(kernels.PAIR, kernels.PAIRS, slot, [(i, j, c) for (i, j), c in pairs.items()])


def _in_pairs(single: int, double: int, target: int, products: Sequence[Product]) -> list[Line]:
    """Write two products to an instruction, as far as there are two: their target is read and written half as often."""
    parts = [tuple(products[k : k + 2]) for k in range(0, len(products), 2)]
    return [(double if len(part) == 2 else single, target, part) for part in parts]


def _packed(lines: Sequence[Line]) -> Code:
    numbers, factors = np.zeros((len(lines), 6), dtype=np.int64), np.zeros((len(lines), 2))
    for k, (kind, target, products) in enumerate(lines):
        numbers[k, :2] = kind, target
        for i, (one, other, factor) in enumerate(products):
            numbers[k, 2 + 2 * i : 4 + 2 * i] = one, other
            factors[k, i] = factor
    return numbers, factors
