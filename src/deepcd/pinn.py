"""Physics-informed neural networks: `deepcd.solvers.pinn`, under a shorter name."""

from deepcd.solvers.pinn import *  # noqa: F403
