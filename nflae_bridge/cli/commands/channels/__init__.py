"""Hold the commands on channel files: simulate, inspect, estimate, predict, feedback, track, precode and embed."""
