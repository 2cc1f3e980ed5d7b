"""Learn beam forecasts from measured sequences, compare them with every rival, and keep what validation prefers."""
