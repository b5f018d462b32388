"""Where an iteration runs: the host, or a CUDA device."""
