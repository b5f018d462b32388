"""Optimisers of dense curvature, for functions and sums of squares of a few thousand parameters."""
