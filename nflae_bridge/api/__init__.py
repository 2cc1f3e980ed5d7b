"""Implement the functions of the package `nflae_bridge` on NumPy arrays, one per module."""
