"""Reproduce what goes beyond the papers: noisy CSI, other settings, and flights."""
