"""Serve precoders to running programs: the wire protocol, its clients and server, and the GNU Radio relay."""
