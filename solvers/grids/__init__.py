"""Cartesian grids: where the rows of a matrix lie in a padded box, and what couples them there."""
