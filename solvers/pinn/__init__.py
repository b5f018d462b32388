"""Physics-informed neural networks, trained on points that a sampler moves to where the residual is large.

>>> from deepcd import pinn
>>> run = pinn.solve("one_peak", sampler="aas", budget=5, points=100, width=8, depth=2, warmup=5)
>>> run.predict([[0.5, 0.5], [1.0, 0.0]]).shape
(2,)
"""

from deepcd.pde.extras import require

require("torch", "zuko", "pytorch_optimizer", extra="pinn", by="deepcd.pinn")

from deepcd.pde.problems import PROBLEMS as PROBLEMS
from deepcd.pde.problems import Condition as Condition
from deepcd.pde.problems import Problem as Problem
from deepcd.pde.problems import problem as problem
from deepcd.solvers.pinn.network import Network as Network
from deepcd.solvers.pinn.objective import NotFiniteError as NotFiniteError
from deepcd.solvers.pinn.optimizers.methods import OPTIMIZERS as OPTIMIZERS
from deepcd.solvers.pinn.run import Run as Run
from deepcd.solvers.pinn.run import RunSettings as RunSettings
from deepcd.solvers.pinn.samplers import SAMPLERS as SAMPLERS
from deepcd.solvers.pinn.samplers import Sampler as Sampler
from deepcd.solvers.pinn.samplers import sampler as sampler
from deepcd.solvers.pinn.training import solve as solve
