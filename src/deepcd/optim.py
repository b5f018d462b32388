"""The public names of `deepcd.solvers.optimizers.torch_modules`, optimisers for torch, under a shorter name."""

from deepcd.solvers.optimizers.torch_modules import *  # noqa: F403
