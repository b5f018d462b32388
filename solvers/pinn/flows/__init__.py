"""A normalising flow on a box, built on zuko: a density that can be evaluated, differentiated and drawn from."""

from deepcd.solvers.pinn.flows.box_krnet import BoxKRnet as BoxKRnet
