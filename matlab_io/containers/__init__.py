"""Decode the container formats of ``.mat`` files: level 4, level 5 (versions 6 and 7) and HDF5 (version 7.3)."""
