"""Link budgets that files of CSI take over: power, noise power of every user, time between slots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from tests.channel_files import Run, load
from tests.moving_users import moving_users

COMMANDS = {
    "feedback": ("--bits", "40"),
    "estimate": ("--method", "ls", "--noise-dbw", "-30"),
    "predict": ("--method", "hold", "--ahead", "2"),
}
NOISE = np.array([0.01, 0.02, 0.04])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "channels.mat"


def save(path: Path, layout: str = "nks", **values: object) -> Path:
    """Channels of three users in eight snapshots; of every snapshot on two subcarriers in the layout nksf."""
    channels = moving_users(8).T
    if layout == "nksf":
        channels = np.stack([channels, 2 * channels], -1)
    scipy.io.savemat(path, {"H": channels, "layout": layout, "slot_seconds": 0.001, "power": 8.0} | values)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_noise_power_of_every_user_is_that_of_the_output(
    command: str, nflae: Run, saved: Path, tmp_path: Path
) -> None:
    output = tmp_path / "csi.mat"
    done = nflae(command, save(saved, noise_power=NOISE), "-o", output, *COMMANDS[command])
    assert done.exit_code == 0, done.output
    found = load(output)
    drops = found["H"].shape[-1]
    np.testing.assert_array_equal(found["noise_power"], np.repeat(NOISE[:, None], drops, 1))
    assert found["power"] == 8
    done = nflae("precode", output, "-o", tmp_path / "precoded.mat", "--scheme", "rzf")
    assert done.exit_code == 0, done.output
    assert "0.01 to 0.04 W" in done.output


@pytest.mark.parametrize("layout", ["nks", "nksf"])
def test_the_noise_power_of_every_drop_follows_the_order_of_the_reports(
    layout: str, nflae: Run, saved: Path, tmp_path: Path
) -> None:
    output, again = tmp_path / "csi.mat", tmp_path / "again.mat"
    noise = np.outer(NOISE, np.arange(1, 9))
    if layout == "nksf":
        noise = np.stack([noise, 3 * noise], -1)
    assert nflae("feedback", save(saved, layout, noise_power=noise), "-o", output, "--bits", 40).exit_code == 0
    found = load(output)
    np.testing.assert_array_equal(found["noise_power"], noise if layout == "nks" else noise.swapaxes(1, 2))
    assert nflae("feedback", "--decode", output, "-o", again).exit_code == 0
    decoded = load(again)
    for name in ("H", "noise_power", "power", "slot_seconds"):
        np.testing.assert_array_equal(decoded[name], found[name])
    assert decoded["nflae_info"]["drop_axis"] == "time"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"noise_power": np.outer(NOISE, np.arange(1, 9))}, "noise_power is a noise power per drop"),
        ({"noise_power": np.ones(5)}, "noise_power is 1 x 5"),
    ],
)
def test_what_is_not_taken_over_is_said(
    given: dict[str, object], told: str, nflae: Run, saved: Path, tmp_path: Path
) -> None:
    output = tmp_path / "csi.mat"
    done = nflae("predict", save(saved, **given), "-o", output, *COMMANDS["predict"])
    assert done.exit_code == 0, done.output
    assert "not written to the output: pass --" in done.output
    assert told in done.output
    assert set(given).isdisjoint(load(output))
