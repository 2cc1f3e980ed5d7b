"""Beam forecasters, one file each, under the names of their registry."""
