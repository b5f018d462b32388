"""The lines of a box along its last axis, and which of them look the same at the finest level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import lines as passes
from deepcd.solvers.kernels.patterns import distinct_windows
from deepcd.solvers.kernels.records import F32, Box
from deepcd.solvers.preconditioners.multigrid.evaluation import Network, evaluate

I64 = NDArray[np.int64]
WORD = 4  # bytes


class Lines(NamedTuple):
    """The lines of a padded box.

    What a network says of a cell depends on the codes around it, and what a smoother does there on what the network
    says of the cell and of its neighbours. So lines are told apart three times: by their patterns' codes, by their
    patterns, and by the coefficients in them, each time by what the lines around them are.
    """

    length: int
    steps: I64  # (2,): distances of neighbouring lines, 0 for an axis that the box does not have
    inner: I64  # lines that are not all padding
    kinds: I64  # (lines,): number of each among those whose patterns may differ, 0 for padding
    first_of_kind: I64  # a line of each kind but 0
    alike: I64  # (inner,): number of each among those whose coefficients may differ
    first_alike: I64  # a line of each

    @classmethod
    def of(cls, box: Box, diagonal: NDArray[np.uint8]) -> Lines:
        """Compare the lines of a flat padded box of diagonal entries."""
        (n0, n1, n2), (s0, s1) = box
        length = n2 + 2
        count, steps = diagonal.size // length, np.array([s0 // length, s1 // length])
        inner = (np.arange(1, n0 + 1)[:, None] * steps[0] + np.arange(1, n1 + 1) * (s1 > 0)).ravel()
        padded = np.zeros((count, -(-length // WORD) * WORD), dtype=np.uint8)
        padded[:, :length] = diagonal.reshape(count, length)
        words = padded.view(np.uint32)
        kinds = _numbered(words.reshape(-1), np.arange(count) * words.shape[1], np.arange(words.shape[1]))[1]
        cross = np.array([0, -steps[0], steps[0]] + [-steps[1], steps[1]] * (s1 > 0))
        block = (np.array([0, -steps[0], steps[0]])[:, None] + np.unique([0, -steps[1], steps[1]])).ravel()
        for offsets in (cross, block):
            first_of_kind, numbers = _numbered(kinds.astype(np.uint32), inner, offsets)
            kinds = np.zeros(count, dtype=np.int64)
            kinds[inner] = numbers + 1
        first_alike, alike = _numbered(kinds.astype(np.uint32), inner, cross)
        return cls(length, steps, inner, kinds, first_of_kind, alike, first_alike)

    def evaluate(self, codes: NDArray[np.uint8], around: I64, network: Network) -> tuple[F32, NDArray[np.int32]]:
        """Return the outputs of the finest network, (patterns, outputs), and the pattern of each cell, (kinds, length).

        Row and number 0 are those of the undisturbed interior, and of what is no unknown.
        """
        room = self.first_of_kind.size * self.length
        cells, slots = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        count = passes.irregular_cells(codes, self.first_of_kind, self.length, around, cells, slots)
        table, numbers = evaluate(codes, cells[:count], around, network)
        patterns = np.zeros((1 + self.first_of_kind.size, self.length), dtype=np.int32)
        patterns[1:].reshape(-1)[slots[:count]] = numbers
        return table, patterns

    def coefficients(
        self, diagonal: NDArray[np.uint8], patterns: NDArray[np.int32], factors: F32, constants: F32
    ) -> tuple[I64, NDArray[np.int32], F32]:
        """Return the cells that have coefficients of their own, their patterns, and their differences, (2, 7, cells).

        Arguments are those of `kernels.lines.coefficients`.
        """
        places = np.empty(self.first_alike.size * self.length, dtype=np.int64)
        ends = np.empty(self.first_alike.size + 1, dtype=np.int64)
        lines = diagonal, self.first_alike, self.length, self.steps, self.kinds, patterns, places, ends
        passes.list_cells(*lines)
        few = np.empty((2, 7, ends[-1]), dtype=np.float32)
        passes.coefficients(*lines, factors, constants, few)
        counts = np.diff(ends)
        own = patterns[np.repeat(self.kinds[self.first_alike], counts), places[: ends[-1]]]
        count = int(counts[self.alike].sum())
        listed, numbers = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int32)
        delta = np.empty((2, 7, count), dtype=np.float32)
        passes.spread(self.inner, self.alike, self.length, places, ends, own, few, listed, numbers, delta)
        return listed, numbers, delta


def _numbered(words: NDArray[np.uint32], origins: I64, offsets: I64) -> tuple[I64, I64]:
    """Return the origin of the first of each distinct windows words[origin + offsets], and the number of each."""
    found = distinct_windows(words, origins, offsets, np.zeros(origins.size, dtype=np.bool_), share=1.0)
    assert found is not None
    return found[0], found[1].astype(np.int64)
