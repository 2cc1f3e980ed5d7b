"""Time against sum rate: the network and its rivals on the same drops, in one run; see `nflae bench`."""
