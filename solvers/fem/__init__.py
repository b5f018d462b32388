"""Finite elements with deepcd: the solver that scikit-fem calls, and what ``deepcd solve --mesh`` does and draws."""
