"""Measure time against sum rate: the network and other schemes on the same drops, in one run; see `nflae bench`."""
