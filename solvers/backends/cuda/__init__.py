"""The CUDA device: vectors, operators and preconditioners of an iteration there."""
