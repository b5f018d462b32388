"""Sparse factors of a symmetric matrix: what they will cost, and how they are computed and used."""
