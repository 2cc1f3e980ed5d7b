"""Define networks that predict and estimate channels."""
