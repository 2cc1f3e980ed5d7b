"""Check and prepare sequences of snapshots: their times, gaps, order and scale."""
