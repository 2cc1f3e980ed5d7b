"""Forecast the best beams of moving users from past beam powers and positions: windows, splits, methods, measures."""
