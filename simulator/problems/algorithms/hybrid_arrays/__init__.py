"""Hybrid arrays: phase shifters between a few RF chains and all antennas."""
