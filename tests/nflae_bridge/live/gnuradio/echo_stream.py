"""``nflae stream`` as a process that starts quickly: the "precoders" are the channels, so that every answer is named.

echo_stream.py CSI PRECODERS [SECONDS_PER_ITEM]
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.result import Result
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.relay import RelayOptions
from nflae_bridge.live.gnuradio.session import Computation, StreamSettings, stream
from nflae_bridge.live.gnuradio.sockets.endpoints import parse_endpoint
from nflae_bridge.live.log import EventLog

USERS, ANTENNAS = 1, 2


def echo(channels: npt.NDArray[np.complex64], **budget: float) -> Result:
    """The channels in the place of the precoders."""
    drops, users, _ = channels.shape
    ones, flags = np.ones((drops, users)), np.zeros(drops, bool)
    labels = np.zeros((drops, users), bool)
    return Result(channels, ones, ones, ones, labels, ones, ones, ones[:, 0], ~flags, flags)


def main(csi: str, precoders: str, seconds: float = 0.0) -> None:
    def slow_echo(channels: npt.NDArray[np.complex64], **budget: float) -> Any:
        time.sleep(seconds * len(channels))
        return echo(channels)

    log = EventLog()
    settings = StreamSettings(
        csi=parse_endpoint(csi, is_input=True),
        outputs={"precoders": parse_endpoint(precoders, is_input=False)},
        parameters=LinkParameters(USERS, ANTENNAS),
        relay=RelayOptions(),
        status_seconds=1.0,
    )
    stream(settings, Computation(lambda counts: slow_echo), log)
    log.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
