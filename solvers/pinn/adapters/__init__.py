"""Samplers in the training of other libraries: import `deepxde` or `pina`, whichever library is installed."""
