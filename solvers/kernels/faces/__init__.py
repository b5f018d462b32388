"""Passes over grids whose faces have weights of their own: multigrid by elimination, axis by axis."""
