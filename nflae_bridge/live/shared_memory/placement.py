"""Place the channels of a request, and room for its answer, in a segment of shared memory."""

from __future__ import annotations

import numpy as np

from nflae_bridge.live.protocol.answers import describe_answer
from nflae_bridge.live.protocol.headers import MemoryReference
from nflae_bridge.live.protocol.memory import described_bytes
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.shared_memory.pool import Lease, SegmentPool
from nflae_bridge.live.shared_memory.segment import aligned

_MIN_BYTES = 1 << 20  # of channels, at which the status is read; below, less than a third of the transfer is saved


def place_request(pool: SegmentPool, request: PrecodeRequest) -> tuple[Lease | None, MemoryReference | None]:
    """Copy the channels of a request into a segment that has room for the answer.

    Parameters
    ----------
    pool : SegmentPool
        Segments.
    request : PrecodeRequest
        Request.

    Returns
    -------
    lease : Lease or None
        Segment, to be held until the answer; None for a small request, and where there is no segment.
    reference : MemoryReference or None
        Its reference for the header.
    """
    channels = request.channels
    if channels.nbytes < _MIN_BYTES:
        return None, None
    start, room = aligned(channels.nbytes), described_bytes(describe_answer(request))
    lease = pool.take(start + room)
    if lease is None:
        return None, None
    np.copyto(lease.memory[: channels.nbytes].view(channels.dtype).reshape(channels.shape), channels)
    return lease, MemoryReference(lease.segment, 0, start, room)
