"""Compiled passes over grids, arrays in and out, and their plain NumPy definition."""
