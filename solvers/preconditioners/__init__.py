"""Preconditioners, one method a file, one contract: `solvers.conjugate_directions.Preconditioner`."""
