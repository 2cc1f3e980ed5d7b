"""Implement the command line ``nflae COMMAND``, one module per command."""
