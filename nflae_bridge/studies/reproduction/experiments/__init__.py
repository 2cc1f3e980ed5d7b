"""The experiments, a module each; see `nflae_bridge.studies.reproduction.EXPERIMENTS`."""
