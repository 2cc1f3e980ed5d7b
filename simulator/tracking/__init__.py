"""Track users over time from their channels and satellite positions."""
