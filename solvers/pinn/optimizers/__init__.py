"""Optimisers of physics-informed networks."""

from __future__ import annotations

from deepcd.solvers.pinn.optimizers.self_scaled_broyden import SelfScaledBroyden

__all__ = ["SelfScaledBroyden"]
