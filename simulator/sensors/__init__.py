"""Simulate a site: a mast, buildings, flights of drones, and what channels and sensors record of them."""
