"""Define the wire format: JSON headers, messages as Python objects, and their frames."""
