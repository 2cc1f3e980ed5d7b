"""Simulation and mathematics of near-field multi-user precoding: geometry, channels, downlink, schemes, link level."""
