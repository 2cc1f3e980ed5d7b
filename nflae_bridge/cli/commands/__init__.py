"""Hold one module per command, named like it, in folders by subject; each exports its click command as ``command``."""
