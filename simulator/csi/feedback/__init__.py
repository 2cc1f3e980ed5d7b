"""Feed CSI back in a given number of bits per user and report: codecs, closed loop, encoder and decoder."""
