"""Simulations whose every pressure system is solved by DeepCD: scenes in TOML files, and what runs them."""
