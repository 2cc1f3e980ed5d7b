"""Link-level simulation: bits through code, QAM, precoder, channel and noise, and back to bits at each user.

Mapping, demapping, LDPC codes and OFDM are Sionna PHY's, an optional package. Precoders, powers and CSI are arguments.
"""
