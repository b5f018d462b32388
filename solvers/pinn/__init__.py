"""Physics-informed neural networks for a PDE of one's own, trained on points that move to where the residual is.

>>> from torch import pi, sin
>>> from deepcd import pinn
>>> D = pinn.box(x=(0, 1), y=(0, 1))
>>> run = pinn.solve(lambda x, y, u: u.xx + u.yy + 2 * pi**2 * sin(pi * x) * sin(pi * y), D,
...                  pinn.on(D.boundary, lambda u: u), steps=30, points=300, width=10, depth=2)
>>> run.predict([[0.5, 0.5]]).round(2).tolist()
[1.0]
"""

from deepcd.pde.extras import require

require("torch", "zuko", "pytorch_optimizer", extra="pinn", by="deepcd.pinn")

from deepcd.pde.equations.conditions import observe as observe
from deepcd.pde.equations.conditions import on as on
from deepcd.pde.equations.statements import Problem as Problem
from deepcd.pde.problems import PROBLEMS as PROBLEMS
from deepcd.pde.problems import problem as problem
from deepcd.pde.regions import Domain as Domain
from deepcd.pde.regions import body as body
from deepcd.pde.regions import box as box
from deepcd.pde.regions import level_set as level_set
from deepcd.pde.regions import polygon as polygon
from deepcd.solvers.pinn.approximation import Approximation as Approximation
from deepcd.solvers.pinn.approximation import load as load
from deepcd.solvers.pinn.network import Network as Network
from deepcd.solvers.pinn.objective import NotFiniteError as NotFiniteError
from deepcd.solvers.pinn.optimizers.methods import OPTIMIZERS as OPTIMIZERS
from deepcd.solvers.pinn.run import Run as Run
from deepcd.solvers.pinn.samplers import SAMPLERS as SAMPLERS
from deepcd.solvers.pinn.samplers import Sampler as Sampler
from deepcd.solvers.pinn.samplers import sampler as sampler
from deepcd.solvers.pinn.settings import RunSettings as RunSettings
from deepcd.solvers.pinn.training import solve as solve
