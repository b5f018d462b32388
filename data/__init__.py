"""Random domains, right-hand sides, and the weights and scenes that ship. Imports `deepcd.pde` only."""

from pathlib import Path

from deepcd.data.random_domains import HELD_OUT as HELD_OUT
from deepcd.data.random_domains import TRAINING as TRAINING
from deepcd.data.random_domains import random_grid as random_grid
from deepcd.data.right_hand_sides import right_hand_side as right_hand_side

SCENES = Path(__file__).parent / "scenes"
