"""Predict small batches on a CPU in NumPy, without PyTorch's overhead per operation."""
