"""Geometry, near-field channels and theory, precoding schemes and their reference figures."""
