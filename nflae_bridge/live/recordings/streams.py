"""Record the items of a flowgraph, and send recorded messages to one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import Inlet
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Endpoint, Socket, attach, bound_address, open_socket
from nflae_bridge.live.gnuradio.sockets.peers import PeerLog, PeerMonitor
from nflae_bridge.live.gnuradio.tags import encode_header
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.recordings.source import RecordedMessages
from nflae_bridge.live.recordings.writer import RecordingWriter
from nflae_bridge.live.signals import stopped_by_signals

_POLL_MS = 50
_QUEUED_MESSAGES = 64
_LINGER_MS = 10_000


@dataclass(frozen=True)
class Limits:
    """Hold the limits of a recording.

    Parameters
    ----------
    items : float
        Number of items after which it ends.
    seconds : float
        Time after which it ends, s.
    """

    items: float = math.inf
    seconds: float = math.inf


def record_stream(
    path: Path, csi: Endpoint, size: tuple[int, int], convention: str, limits: Limits, log: EventLog
) -> int:
    """Record the messages of a stream until a limit or a signal.

    Parameters
    ----------
    path : pathlib.Path
        File of the samples.
    csi : Endpoint
        Input.
    size : tuple of int
        Numbers of users and of antennas.
    convention : {"hermitian", "direct"}
        Convention of the channels.
    limits : Limits
        Limits; the message that reaches one is recorded whole.
    log : EventLog
        Log.

    Returns
    -------
    int
        Items recorded.

    Raises
    ------
    NflaeError
        If the address or the file is unusable, the items have another size, or none came.
    """
    if csi.pdu or csi.latest:
        raise NflaeError(f"{csi}: the items of a stream are recorded; leave out ',{'pdu' if csi.pdu else 'latest'}'")
    stopped: list[bool] = []
    counts, context = Counts(), zmq.Context()
    context.linger = 0
    parameters = LinkParameters(*size)
    try:
        with stopped_by_signals(lambda: stopped.append(True)):
            inlet = Inlet(
                context,
                csi,
                parameters,
                counts,
                warn=lambda event, text: log.warning(event, message=text),
                write=lambda event, **fields: log.info(event, **fields),
            )
            try:
                writer = RecordingWriter(path, *size, convention, f"CSI received at {inlet.sender.address}")
                log.info("recording", address=inlet.sender.address, file=path)
                inlet.sender.subscribe()
                _record(inlet, writer, limits, lambda: bool(stopped))
            finally:
                inlet.sender.close()
    finally:
        context.term()
    log.info("stopped", items=writer.items, lost=counts.lost, malformed=counts.malformed, restarts=counts.restarts)
    if not writer.items:
        raise NflaeError(f"{path}: nothing recorded: no item of {size[0]} x {size[1]} numbers came from {csi}")
    return writer.items


def _record(inlet: Inlet, writer: RecordingWriter, limits: Limits, stopping: Callable[[], bool]) -> None:
    end = time.monotonic() + limits.seconds
    try:
        while not stopping() and writer.items < limits.items and time.monotonic() < end:
            inlet.sender.follow()
            message = inlet.next_message()
            if message is None:
                poller = zmq.Poller()
                inlet.sender.register(poller, messages=True)
                poller.poll(_POLL_MS)
            else:
                age = time.monotonic() - message.arrived
                writer.write(message.channels, message.header, run=message.run, age=age)
            writer.tick()
    finally:
        writer.close()


def replay_stream(recorded: RecordedMessages, output: Endpoint, keep_timing: bool, log: EventLog) -> int:
    """Send the messages of a recording to a flowgraph, once a reader has connected.

    Parameters
    ----------
    recorded : RecordedMessages
        Messages.
    output : Endpoint
        Output, push or pub.
    keep_timing : bool
        Keep the time between messages.
    log : EventLog
        Log.

    Returns
    -------
    int
        Items sent; fewer than recorded after a signal.

    Raises
    ------
    NflaeError
        If the address is unusable.
    """
    if output.kind == "rep" or output.pdu:
        raise NflaeError(f"{output}: recorded messages are sent by push or pub, without ',pdu'")
    if any(message.header for message in recorded.messages) and not output.tags:
        log.warning("tags_left_out", message="the recording has tags; add ',tags' to send them")
    stopped: list[bool] = []
    context: Context = zmq.Context()
    socket = open_socket(context, output, _QUEUED_MESSAGES)
    peers = PeerMonitor(socket, output, PeerLog(output, lambda event, **fields: log.info(event, **fields)))
    try:
        with stopped_by_signals(lambda: stopped.append(True)):
            attach(socket, output)
            log.info("replaying", address=bound_address(socket), messages=len(recorded.messages))
            while not (peers.joined or stopped):
                peers.monitor.poll(_POLL_MS)
                peers.read()
            return _send(recorded, socket, output, keep_timing, lambda: bool(stopped), log)
    finally:
        peers.close()
        socket.close(linger=0 if stopped else _LINGER_MS)
        context.term()


def _send(
    recorded: RecordedMessages,
    socket: Socket,
    output: Endpoint,
    keep_timing: bool,
    stopping: Callable[[], bool],
    log: EventLog,
) -> int:
    items, late = 0, 0.0
    for message, channels in recorded.scheduled(keep_timing, stopping):
        header = (message.header or encode_header(message.first, [])) if output.tags else b""
        payload = header + np.ascontiguousarray(channels, "<c8").tobytes()
        frames = [output.key.encode(), payload] if output.key else [payload]
        while not (stopping() or socket.poll(_POLL_MS, zmq.POLLOUT)):
            pass
        if stopping():
            break
        socket.send_multipart(frames)
        items += message.items
        late = max(late, recorded.lateness)
    log.info("stopped", items=items, of=recorded.items, late_ms=round(1e3 * late, 1))
    return items
