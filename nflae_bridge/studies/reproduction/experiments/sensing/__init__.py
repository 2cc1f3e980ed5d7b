"""Reproduce beam forecasts from cameras, radar, LiDAR, satellite positions and CSI, at a synthetic site."""
