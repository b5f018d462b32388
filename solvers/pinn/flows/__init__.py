"""Normalising flows on a box, built on zuko: densities that can be evaluated, differentiated and drawn from."""

from deepcd.solvers.pinn.flows.box_krnet import BoxKRnet as BoxKRnet
from deepcd.solvers.pinn.flows.flow import Flow as Flow
from deepcd.solvers.pinn.flows.krnet import KRnet as KRnet
