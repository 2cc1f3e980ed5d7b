"""Choose how many drops are computed at once, for a bounded working memory."""

from __future__ import annotations

_BLOCK_BYTES = 32 << 20
# What the network keeps of a pair of users while it works: its features and messages, a few hundred floats.
_BYTES_A_PAIR = 1024


def drops_per_block(users: int, antennas: int) -> int:
    """How many drops make a block of some 32 MiB, counting the channels and what the network makes of them."""
    return max(1, min(4096, _BLOCK_BYTES // (8 * users * antennas + _BYTES_A_PAIR * users**2)))
