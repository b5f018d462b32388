"""The public names of `deepcd.solvers.pinn`, physics-informed neural networks, under a shorter name."""

from deepcd.solvers.pinn import *  # noqa: F403
