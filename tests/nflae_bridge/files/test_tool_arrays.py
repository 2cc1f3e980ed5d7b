"""Arrays as public tools return them: never read by a guess, and read as the tool means them with the options named.

Each case builds the tool's array from h_kr of y_kr = h_kr^H x, known here, and states where its axes are documented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import MatFileError, open_channels

Array = npt.NDArray[Any]
DROPS, CARRIERS, USERS, RECEIVE, ANTENNAS = 3, 5, 4, 2, 16


def rows(users: int, receive: int, *, drops: int = DROPS, carriers: int = CARRIERS) -> Array:
    """h, (drops, carriers, users, receive antennas, antennas)."""
    rng = np.random.default_rng(9)
    shape = (drops, carriers, users, receive, ANTENNAS)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@dataclass(frozen=True)
class Tool:
    """One function's output.

    ``build`` makes the array of y = H x from H (drops, carriers, users, receive antennas, antennas); ``order`` are the
    drop axes from fastest to slowest in MATLAB's order.
    """

    name: str
    build: Callable[[Array], Array]
    layout: str
    users: int = 1
    receive: int = RECEIVE
    carriers: int = CARRIERS
    drops: int = DROPS
    order: str = "fs"
    convention: str | None = None


TOOLS = {
    # mathworks.com/help/5g/ref/nrperfectchannelestimate.html: K-by-L-by-Nr-by-Nt; the example prints 300 14 2
    "nrPerfectChannelEstimate": Tool("hest", lambda H: H[:, :, 0].transpose(1, 0, 2, 3), "fsrn"),
    "nrPerfectChannelEstimate, one receive antenna": Tool(
        "Hest", lambda H: H[:, :, 0].transpose(1, 0, 2, 3), "fsrn", receive=1
    ),
    # mathworks.com/help/5g/ref/nrchannelestimate.html: K-by-L-by-R-by-P
    "nrChannelEstimate": Tool("h", lambda H: H[:, :, 0].transpose(1, 0, 2, 3), "fsrn"),
    # @qd_channel/fr.m of QuaDRiGa 2.8.1: [ Rx-Antenna , Tx-Antenna , Carrier-Index , Snapshot ]
    "QuaDRiGa fr, saved as H": Tool("H", lambda H: H[:, :, 0].transpose(2, 3, 1, 0), "rnfs"),
    # DeepMIMO 3.2.9 and 4.0.5: users x receive x transmit x subcarriers
    "DeepMIMO 4 compute_channels": Tool("channel", lambda H: H[0].transpose(1, 2, 3, 0), "krnf", users=USERS, drops=1),
    "DeepMIMO 4, several times": Tool("channels", lambda H: H.transpose(2, 3, 4, 1, 0), "krnfs", users=USERS),
    # sionna.phy.channel.cir_to_ofdm_channel: batch, rx, rx_ant, tx, tx_ant, OFDM symbol, subcarrier
    "Sionna PHY h_freq": Tool(
        "h_freq",
        lambda H: H.transpose(0, 2, 3, 4, 1)[:, :, :, None, :, None],
        "skr1n1f",
        users=USERS,
        order="sf",
    ),
    # sionna.rt.Paths.cfr: rx, rx_ant, tx, tx_ant, time, frequency
    "Sionna RT cfr": Tool(
        "h", lambda H: H.transpose(2, 3, 4, 0, 1)[:, :, None], "kr1nsf", users=USERS, order="sf"
    ),
    # dhalperi.github.io/linux-80211n-csitool/faq.html: Ntx x Nrx x 30, y = csi(:,:,f).' x
    "Intel 5300 CSI Tool": Tool(
        "csi", lambda H: H[0, :, 0].transpose(2, 1, 0), "nrf", drops=1, carriers=30, convention="direct"
    ),
    # feitcsi.kuskosoft.com/matlab: num_subcarriers, num_rx, num_tx
    "FeitCSI": Tool("csi", lambda H: H[0, :, 0], "frn", drops=1, carriers=30),
    # help of wlanHTDataRecover: Nst-by-Nsts-by-Nr
    "WLAN Toolbox, saved as H": Tool(
        "H", lambda H: H[0, :, 0].transpose(0, 2, 1), "fnr", drops=1, carriers=56, convention="direct"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOOLS)
def test_array_of_a_tool(tmp_path: Path, case: str) -> None:
    tool = TOOLS[case]
    h = rows(tool.users, tool.receive, drops=tool.drops, carriers=tool.carriers)
    path = tmp_path / "tool.mat"
    scipy.io.savemat(path, {tool.name: tool.build(h.conj())})
    with pytest.raises(MatFileError, match="pass --layout") as refused:
        open_channels(path)
    options: dict[str, Any] = {"layout": tool.layout, "convention": tool.convention}
    if tool.receive > 1:
        with pytest.raises(MatFileError, match="receive-antennas"):
            open_channels(path, **options)
        options["receive_antennas"] = "each"
    assert "\n" not in str(refused.value)
    with open_channels(path, **options) as channels:
        read = channels.read(0, channels.drops)
        assert channels.convention == "direct"
    order = h if tool.order == "fs" else h.swapaxes(0, 1)
    np.testing.assert_array_equal(read, order.reshape(-1, tool.users * tool.receive, ANTENNAS))


@pytest.mark.parametrize("name", ["H", "h_est", "chan_est", "ch_est", "channel"])
def test_two_axes_of_antennas_and_users(tmp_path: Path, name: str) -> None:
    """A name that a tool uses for other axes does not change what 16 x 4 of one's own means: read so, or refused."""
    h = rows(USERS, 1, drops=1, carriers=1)[0, 0, :, 0]
    scipy.io.savemat(tmp_path / "own.mat", {name: h.T})
    if name in ("chan_est", "ch_est"):
        with pytest.raises(MatFileError, match=r"may be the WLAN Toolbox's .* --layout fnr = .*--layout nk = 16"):
            open_channels(tmp_path / "own.mat")
    layout = "nk" if name in ("chan_est", "ch_est") else None
    with open_channels(tmp_path / "own.mat", layout=layout) as channels:
        np.testing.assert_array_equal(channels.read(0, channels.drops), h[None])
