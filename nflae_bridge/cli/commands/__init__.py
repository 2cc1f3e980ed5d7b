"""Hold one module per command, named like it; each exports its click command as ``command``."""
