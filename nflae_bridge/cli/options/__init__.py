"""Define the options of the commands, one module per subject."""
