"""Serve precoders from a network with guarantees: never worse than RZF under the same constraints, C1-C5 held."""
