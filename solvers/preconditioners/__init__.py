"""Preconditioners, one method a file, one contract: `solvers.space.Preconditioner`."""
