"""Computation of requests about snapshots in order: predictions, and tracks with their state."""
