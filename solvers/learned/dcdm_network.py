"""The network of the Deep Conjugate Direction Method, as published, in three variants.

Kaneda, Akar, Chen, Kala, Hyde and Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems",
ICML 2023. A convolutional network maps a residual of length one to a direction. It sees no geometry.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

FILTERS = 16  # channels of each convolution
# torch runs a single small image on a code path that is ten times slower. An image with at most this many numbers,
# counted over channels and the first two axes, is therefore computed twice in one batch.
SMALL = 20_480
# Number of axes, and of residual blocks before the pooling, under it, and after it. The paper names its two networks
# after the box that each was trained on; "2d" is the first of them in two dimensions.
VARIANTS = {"64": (3, 1, 3, 2), "128": (3, 2, 5, 3), "2d": (2, 1, 3, 2)}


class Block(nn.Module):
    """The map x + relu(conv(relu(conv(x)))), in which the addition follows the last relu."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.first, self.second = conv(FILTERS, FILTERS), conv(FILTERS, FILTERS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of x and what the two layers make of it."""
        inner = functional.relu(self.second(functional.relu(self.first(x))))
        return x + inner


class DCDMNetwork(nn.Module):
    """Convolutions over three cells per axis, with sixteen channels, on a grid and on one of half its resolution.

    Parameters
    ----------
    variant : {"64", "128", "2d"}
        "64" and "128" are the two networks of the paper, with 97,457 and 152,881 parameters; "2d" is a smaller one
        for two dimensions.

    Raises
    ------
    ValueError
        If there is no such variant.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.learned.dcdm_network import DCDMNetwork
    >>> [sum(p.numel() for p in DCDMNetwork(variant).parameters()) for variant in ("64", "128")]
    [97457, 152881]
    >>> DCDMNetwork("64")(torch.zeros(2, 8, 9, 10)).shape
    torch.Size([2, 8, 9, 10])
    """

    def __init__(self, variant: str | int = "64") -> None:
        super().__init__()
        self.variant = str(variant)
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, got {variant!r}")
        self.ndim, before, under, after = VARIANTS[self.variant]
        layer = nn.Conv3d if self.ndim == 3 else nn.Conv2d

        def conv(inputs: int, outputs: int, width: int = 3) -> nn.Module:
            return layer(inputs, outputs, width, padding=width // 2)

        def blocks(number: int) -> nn.Sequential:
            return nn.Sequential(*(Block(conv) for _ in range(number)))

        self.lift, self.enter = conv(1, FILTERS), conv(FILTERS, FILTERS)
        self.before, self.leave = blocks(before), conv(FILTERS, FILTERS)
        self.under, self.after = blocks(under), blocks(after)
        self.sum = conv(FILTERS, 1, 1)

    @property
    def work(self) -> float:
        """Passes over the finest grid that an evaluation costs; each convolution reads and writes sixteen channels."""
        before, under, after = VARIANTS[self.variant][1:]
        return 2 * FILTERS * (3 + 2 * (before + after) + 2 * under / 2**self.ndim)

    def forward(self, r: Tensor) -> Tensor:
        """Return directions for residuals of length one.

        Parameters
        ----------
        r : Tensor of float32, shape (batch, n0, n1) or (batch, n0, n1, n2)
            Residuals that are zero where there is no unknown. Axes of odd length are padded by a layer of zeros.

        Returns
        -------
        Tensor of float32, of the same shape

        Raises
        ------
        ValueError
            If r has another number of axes.
        """
        shape = r.shape[1:]
        if len(shape) != self.ndim:
            raise ValueError(f"r must have a batch and {self.ndim} axes, got shape {tuple(r.shape)}")
        odd = [side for n in reversed(shape) for side in (0, n % 2)]
        x = functional.pad(r[:, None], odd)
        if len(r) == 1 and FILTERS * shape[0] * shape[1] <= SMALL:
            x = x.expand(2, *x.shape[1:])
        x = functional.relu(self.enter(self.lift(x)))
        skipped = functional.relu(self.leave(self.before(x)))
        pool = functional.avg_pool3d if self.ndim == 3 else functional.avg_pool2d
        x = functional.interpolate(self.under(pool(skipped, 2)), scale_factor=2.0, mode="nearest")
        x = self.sum(self.after(x + skipped))
        return x[(slice(len(r)), 0, *(slice(n) for n in shape))]


def variant_of(architecture: str) -> str:
    """Return the variant that a weight file's architecture names; "64" for "dcdm-64/1".

    Raises
    ------
    ValueError
        If the architecture is that of another network.
    """
    variant = architecture.removeprefix("dcdm-").removesuffix("/1")
    if architecture != f"dcdm-{variant}/1" or variant not in VARIANTS:
        known = ", ".join(f"'dcdm-{name}/1'" for name in VARIANTS)
        raise ValueError(f"the weights are those of {architecture!r}; DCDM networks are {known}")
    return variant
