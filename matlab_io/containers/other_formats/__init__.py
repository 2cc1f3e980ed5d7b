"""Decode files that are not MATLAB's: numpy's arrays, raw complex numbers, and SigMF recordings."""
