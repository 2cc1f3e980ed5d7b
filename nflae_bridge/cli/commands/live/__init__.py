"""Hold the commands for running programs: serve, keys, stream, record, replay, gnuradio and matlab-path."""
