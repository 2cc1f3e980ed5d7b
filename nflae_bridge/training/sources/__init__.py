"""Draw training data that no simulator scenario supplies as such: sites, snapshots, and the drops of a channel file."""
