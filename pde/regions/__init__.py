"""Domains that networks are trained on: boxes, polygons, level sets, bodies, and what is cut and joined from them.

>>> import torch
>>> from deepcd.pde.regions import box, polygon
>>> domain = box(t=(0, 1)) * polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
>>> domain.axes, domain.boundary.without("t").names
(('t', 'x', 'y'), (0, 1, 2, 3, 4, 5))
>>> x, normal = domain[1].points(100, torch.Generator().manual_seed(0))
>>> x[:, 1].unique().tolist(), normal[0].tolist()
([2.0], [0.0, 1.0, 0.0])
"""

from deepcd.pde.extras import require

require("torch", extra="pinn", by="deepcd.pde.regions")

from deepcd.pde.regions.bodies import body as body
from deepcd.pde.regions.boxes import box as box
from deepcd.pde.regions.contract import Domain as Domain
from deepcd.pde.regions.contract import Part as Part
from deepcd.pde.regions.level_sets import level_set as level_set
from deepcd.pde.regions.pieces import Piece as Piece
from deepcd.pde.regions.polygons import polygon as polygon
