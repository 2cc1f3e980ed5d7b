"""Draw figures in one style: users on the map, schemes side by side, benchmarks, link studies."""
