"""deepcd: learned solvers for scientific computing."""
