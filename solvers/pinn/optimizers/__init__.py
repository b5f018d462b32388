"""Optimisers of physics-informed networks."""

from deepcd.solvers.pinn.optimizers.self_scaled_broyden import SelfScaledBroyden as SelfScaledBroyden
