"""Read channels: the variable, its axis layout, the link budget beside it, and its drops in blocks."""
