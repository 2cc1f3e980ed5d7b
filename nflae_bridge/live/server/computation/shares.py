"""Divide a limited resource among clients, so that none can take all of it."""

from __future__ import annotations

from collections import defaultdict

_RATIO = 4  # of a client's largest holding to what then remains for all others
_SMALL_FRACTION = 8  # a part of 1 / 8 is kept for small amounts
_SMALL_BYTES = 64 << 10


class Shares:
    """Divide an amount by dynamic thresholds: a client may hold at most four times what it leaves free.

    One client can hold 4/5, two clients 4/9 each; what is left for a newcomer never ends as long as the amount can be
    divided. A single client always gets one request, whatever its size.

    Parameters
    ----------
    limit : int
        Amount to divide, as a number of requests or bytes.
    small : int
        Largest request that may use the part kept for small ones.

    References
    ----------
    A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
    IEEE/ACM Trans. Networking 6, 1998.
    """

    def __init__(self, limit: int, small: int = _SMALL_BYTES) -> None:
        self._limit = limit
        self._small = small
        self._held: defaultdict[bytes, int] = defaultdict(int)
        self.used = 0

    def take(self, client: bytes, amount: int) -> bool:
        """Take an amount for a client; return False where its share does not allow it.

        Parameters
        ----------
        client : bytes
            Identity of the client.
        amount : int
            Amount.

        Returns
        -------
        bool
            True if the client now holds it.
        """
        kept = 0 if amount <= self._small else self._limit // _SMALL_FRACTION
        free = self._limit - self.used - amount
        fits = free >= kept and self._held.get(client, 0) + amount <= max(1, _RATIO * free)
        if not fits and self.used:
            return False
        self._held[client] += amount
        self.used += amount
        return True

    def give_back(self, client: bytes, amount: int) -> None:
        """Return an amount that a client holds.

        Parameters
        ----------
        client : bytes
            Identity of the client.
        amount : int
            Amount.
        """
        self._held[client] -= amount
        self.used -= amount
        if not self._held[client]:
            del self._held[client]
