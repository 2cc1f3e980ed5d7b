"""Computation of a stream: in a thread of its own, on a server with a fallback for its absence, and its results."""
