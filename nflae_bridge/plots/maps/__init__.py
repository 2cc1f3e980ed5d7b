"""Maps of the users of one drop: the beam-focusing map of a line, and that of a panel."""
