"""Hold the commands on networks: train and list them."""
