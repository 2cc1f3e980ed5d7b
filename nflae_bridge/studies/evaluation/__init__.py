"""Compare precoding schemes on the drops of a channel file, with the CSI that the transmitter has."""
