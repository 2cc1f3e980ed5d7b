"""Queue requests fairly, estimate their times, and compute them on the device in micro-batches and blocks."""
