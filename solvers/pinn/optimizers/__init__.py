"""Optimisers of physics-informed networks."""
