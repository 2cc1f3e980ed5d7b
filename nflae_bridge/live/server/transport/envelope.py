"""Split the routing identities of a message from its frames."""

from __future__ import annotations

from nflae_bridge.live.protocol.headers import Frame

_MAX_ENVELOPE = 8
_MAX_IDENTITY_BYTES = 255  # ZeroMQ's own limit of a routing identity


def split_envelope(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Split the frames received by a ROUTER socket.

    Parameters
    ----------
    frames : list of bytes or memoryview
        All frames of the message.

    Returns
    -------
    envelope : list of bytes or memoryview
        Routing identities of the peers, at most 7 of at most 255 bytes, with the empty delimiter if one was sent.
    message : list of bytes or memoryview
        The remaining frames.
    """
    for index in range(1, min(len(frames), _MAX_ENVELOPE)):
        if not frames[index]:
            return frames[: index + 1], frames[index + 1 :]
        if len(frames[index]) > _MAX_IDENTITY_BYTES:
            break
    return frames[:1], frames[1:]
