"""PDE problems: grids, domains and the assembly of pressure Poisson systems. Imports nothing else of deepcd."""

from deepcd.pde.domains import Shape as Shape
from deepcd.pde.domains import ball as ball
from deepcd.pde.domains import box as box
from deepcd.pde.domains import cylinder as cylinder
from deepcd.pde.domains import domain as domain
from deepcd.pde.domains import half_space as half_space
from deepcd.pde.domains import height_field as height_field
from deepcd.pde.grids import Cell as Cell
from deepcd.pde.grids import Grid as Grid
from deepcd.pde.mac import divergence as divergence
from deepcd.pde.mac import no_penetration as no_penetration
from deepcd.pde.mac import pressure_rhs as pressure_rhs
from deepcd.pde.mac import project as project
from deepcd.pde.mac import swirling_flow as swirling_flow
from deepcd.pde.poisson import PoissonSystem as PoissonSystem
from deepcd.pde.poisson import poisson as poisson
