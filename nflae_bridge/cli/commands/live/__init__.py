"""Hold the commands for running programs: serve, keys, stream and matlab-path."""
