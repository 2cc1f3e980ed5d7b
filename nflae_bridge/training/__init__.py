"""Training: drops without end, the loss, presets and the loop."""
