"""Live precoding for GNU Radio: CSI in and precoders out over gr-zeromq's sockets.

`pmt` and `tags` are the wire format, `endpoints` the sockets, `inlet` and `outlets` what comes and goes through them,
`relay` the loop between the two. No GNU Radio is needed on this side.
"""
