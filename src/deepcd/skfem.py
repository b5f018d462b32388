"""deepcd for scikit-fem: ``skfem.solve(*skfem.condense(A, b, D=D), solver=deepcd.skfem.solver(basis, D=D))``."""

from deepcd.solvers.fem.scikit_fem import NotSolvedError, solver

__all__ = ["NotSolvedError", "solver"]
