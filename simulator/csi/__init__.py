"""Acquire channel state information (CSI) at the transmitter: models of its errors and classical methods."""
