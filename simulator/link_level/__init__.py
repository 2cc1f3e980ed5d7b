"""The link, symbol by symbol: bits, code, QAM, precoder, channel, noise, and the bits back at each user.

What works on bits and symbols (mapping, demapping, LDPC, OFDM) is Sionna PHY's; what is between them is ours.
"""
