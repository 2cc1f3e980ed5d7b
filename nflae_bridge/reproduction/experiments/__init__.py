"""The experiments, a module each; see `nflae_bridge.reproduction.EXPERIMENTS`."""
