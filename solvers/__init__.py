"""Solvers for linear systems: the front door, the iteration, and the preconditioners that lead it."""

from deepcd.solvers.cg import cg as cg
from deepcd.solvers.conjugate_directions import Record as Record
from deepcd.solvers.conjugate_directions import conjugate_directions as conjugate_directions
from deepcd.solvers.deepcd import DeepCD as DeepCD
from deepcd.solvers.recipes import Part as Part
from deepcd.solvers.recipes import Recipe as Recipe
from deepcd.solvers.solution import Solution as Solution
from deepcd.solvers.solution import Status as Status
from deepcd.solvers.space import Operator as Operator
from deepcd.solvers.space import Preconditioner as Preconditioner
from deepcd.solvers.system import System as System
