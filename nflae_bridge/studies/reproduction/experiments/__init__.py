"""Hold the experiments, one module per table or figure; see `nflae_bridge.studies.reproduction.EXPERIMENTS`."""
