"""Random domains and coefficients, right-hand sides, and what ships: weights and scenes. Imports `deepcd.pde` only."""

from pathlib import Path

from deepcd.data.random_coefficients import COEFFICIENTS as COEFFICIENTS
from deepcd.data.random_coefficients import OWN_ENDS as OWN_ENDS
from deepcd.data.random_coefficients import random_coefficients as random_coefficients
from deepcd.data.random_domains import HELD_OUT as HELD_OUT
from deepcd.data.random_domains import TRAINING as TRAINING
from deepcd.data.random_domains import random_grid as random_grid
from deepcd.data.right_hand_sides import right_hand_side as right_hand_side

SCENES = Path(__file__).parent / "scenes"
