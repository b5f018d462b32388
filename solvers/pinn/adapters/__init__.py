"""Samplers in other libraries' training: `deepxde` and `pina`, each to be imported by itself where it is installed."""
