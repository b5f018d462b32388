"""Operators of the iteration: a matrix-free stencil, and a sparse matrix."""
