"""Define the version of nflae-bridge, once for the package metadata, files, wire and command line."""

__version__ = "0.1.0"
