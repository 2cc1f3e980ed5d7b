"""Define the network: input encoder, trunk, heads; its checkpoints and their export."""
