"""The error a user is meant to read."""


class NflaeError(Exception):
    """Something a user can put right: one line that says what, where and what to do."""
