"""Train the network: drop distributions, the loss, presets and the training loop."""
