"""Measurements and their figures of record; each module runs from the root of the repository with ``python -m``."""
