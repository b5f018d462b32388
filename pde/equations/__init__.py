"""Equations, traced from plain Python functions into graphs that can be differentiated, evaluated and written down.

>>> from deepcd.pde.equations import Frame
>>> frame = Frame("tx")
>>> u = frame.field("u")
>>> (u * u.x).x
u_x^2 + u u_xx
"""

from deepcd.pde.extras import require

require("torch", extra="pinn", by="deepcd.pde.equations")

from deepcd.pde.equations.expressions import Expression as Expression
from deepcd.pde.equations.frames import Frame as Frame
