"""The network: input encoder -> backbone -> heads, and its checkpoints."""
