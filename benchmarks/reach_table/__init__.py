"""Measure the lines of the table of `benchmarks/reach.py`, one module per subject."""
