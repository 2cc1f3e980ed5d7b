"""Computation of a stream: in a thread of its own, and on a server with a fallback for its absence."""
