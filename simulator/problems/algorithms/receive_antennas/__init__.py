"""Users with several receive antennas, whose combiners are chosen together with the precoder."""
