"""Compiled passes over the cells and faces of a grid. They know arrays only; `reference.py` defines them in NumPy."""
