"""The optimisers of this folder for any module of torch, as optimisers of torch.

>>> import torch
>>> from deepcd import optim
>>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
>>> optimizer = optim.GaussNewton([x])
>>> for _ in range(15):
...     value = optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
>>> torch.allclose(x, torch.ones(2, dtype=torch.float64))
True
"""

from deepcd.pde.extras import require

require("torch", extra="pinn", by="deepcd.optim")

from deepcd.solvers.optimizers.torch_modules.dense import LARGEST as LARGEST
from deepcd.solvers.optimizers.torch_modules.methods import GaussNewton as GaussNewton
from deepcd.solvers.optimizers.torch_modules.methods import SSBroyden as SSBroyden
