"""Precode for running GNU Radio flowgraphs: CSI in and precoders out over gr-zeromq's sockets.

`pmt` and `tags` are the wire format, `endpoints` the sockets, `inlet` and `outlets` the messages through them, `items`
the values per drop, `relay` the loop from inlet to outlets. This side needs no GNU Radio.
"""
