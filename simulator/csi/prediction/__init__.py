"""Predict the next snapshots of each user's channel from its equally spaced noisy history."""
