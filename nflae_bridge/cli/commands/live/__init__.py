"""Hold the commands that serve running programs: serve, keys and stream."""
