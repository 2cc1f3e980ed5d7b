"""Encode the channels of a drop as one token per user, for the trunk."""
