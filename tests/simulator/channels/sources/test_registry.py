"""The registry, what it refuses, and ``nflae simulate --source``."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from simulator.channels.scenario import scenario
from simulator.channels.sources import Request, channels, draw, source_names
from simulator.channels.spatial import SpatialScenario
from simulator.geometry.panels import UniformPlanarArray
from tests.channel_files import Run

SIONNA = ("umi", "uma", "rma", "cdl")


def test_every_source_is_in_the_help_and_in_the_docs(nflae: Run) -> None:
    assert set(source_names()) == {
        "uav",
        "paper",
        *SIONNA,
        "deepmimo",
        "flight",
        "quadriga",
        "matlab5g",
        "sionna",
        "site",
    }
    told = nflae("simulate", "--help").output.split("Sources (")[1]
    page = (Path(__file__).parents[4] / "docs" / "how_to" / "sources.md").read_text()
    for name in source_names():
        assert name in told
        assert f"`{name}`" in page


@pytest.mark.parametrize("name", ["uav", "paper"])
def test_scenarios_are_the_simulators(name: Any) -> None:
    expected = scenario(name, 3, 16).draw(5, torch.Generator().manual_seed(2)).channels
    np.testing.assert_array_equal(channels(name, drops=5, users=3, antennas=16, seed=2), expected)


def test_scenarios_at_another_carrier() -> None:
    """Users stand where they stood; half the frequency is twice the wavelength, and fewer are in the near field."""
    at_30, at_3 = (draw("uav", Request(100, 10, 256, carrier=carrier)).metadata for carrier in (30e9, 3e9))
    np.testing.assert_array_equal(at_30["x"], at_3["x"])
    assert (at_30["carrier_hz"], at_3["carrier_hz"]) == (30e9, 3e9)
    assert at_3["near_field"].mean() > at_30["near_field"].mean()  # the array is ten times as long


def test_scenarios_over_subcarriers_split_the_beam() -> None:
    wide = channels("paper", drops=4, users=3, antennas=64, carrier=100e9, subcarriers=5, bandwidth=10e9, seed=2)
    scene = scenario("paper", 3, 64)
    scene = replace(scene, array=replace(scene.array, carrier=100e9), offsets=(-4e9, -2e9, 0.0, 2e9, 4e9))
    np.testing.assert_array_equal(wide, scene.draw(4, torch.Generator().manual_seed(2)).channels)
    metadata = draw("paper", Request(4, 3, 64, 2, 100e9, 10e9, 5)).metadata
    assert metadata["x"].shape == metadata["near_field"].shape == (3, 20)
    assert (metadata["x"][:, 5:10] == metadata["x"][:, 5:6]).all()


def test_scenarios_of_a_panel_are_those_in_three_dimensions() -> None:
    found = draw("uav", Request(6, 3, array="upa:4x8x2", seed=3))
    expected = SpatialScenario(UniformPlanarArray(4, 8, 2), scenario("uav", 3)).draw(
        6, torch.Generator().manual_seed(3)
    )
    np.testing.assert_array_equal(np.concatenate(list(found.blocks)), expected.channels)
    assert found.antennas == 64
    for axis, name in enumerate(("x", "y", "height")):
        np.testing.assert_array_equal(found.metadata[name].T, expected.position[..., axis])
    np.testing.assert_array_equal(found.metadata["near_field"].T, expected.near_field)
    assert found.metadata["array"] == "upa:4x8x2"


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        (
            "ray",
            {},
            "unknown source 'ray': there are cdl, deepmimo, flight, matlab5g, paper, quadriga, rma, sionna, site, uav,",
        ),
        ("quadriga", {}, "source quadriga reads a .mat file: name it, quadriga:PATH"),
        ("uav", {"file": Path("x.mat")}, "generates its channels and reads no file: leave out x.mat"),
        ("uav", {"slots": 4}, "source uav takes no slots: it takes antennas, array, bandwidth, carrier, "),
        ("uav", {"array": "upa:4"}, "no panel 'upa:4': write upa:ROWSxCOLUMNS"),
        ("uav", {"array": "upa:4x4", "antennas": 8}, "array upa:4x4 has 16 antennas, not 8: leave out the number"),
        ("uav", {"subcarriers": 2, "bandwidth": 90e9}, "a bandwidth of 9e+10 Hz does not fit the carrier 3e+10 Hz"),
        ("umi", {"array": "upa:4x4"}, "source umi takes no array"),
        ("quadriga", {"file": Path("x.mat"), "antennas": 8}, "source quadriga takes no antennas: it takes bandwidth"),
        ("uav", {"base_station": 2}, "source uav takes no base station"),
        ("umi", {"subcarriers": 4}, "4 subcarriers need a bandwidth: give --bandwidth-mhz too"),
        ("umi", {"bandwidth": 1e6}, "a bandwidth without subcarriers has no effect: give --subcarriers too"),
        ("umi", {"carrier": -1.0}, "carrier has to be a positive number, got -1"),
        ("umi", {"users": 0}, "users has to be a positive number, got 0"),
    ],
)
def test_what_is_refused(name: str, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(NflaeError) as raised:
        draw(name, Request(**asked))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_sionna_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    for name in SIONNA:
        with pytest.raises(NflaeError, match=rf"^source {name} needs the extra 'sionna' .* pip install .*\[sionna\]"):
            channels(name, drops=1)


def test_simulate_from_a_file(nflae: Run, tmp_path: Path) -> None:
    """What is written reads back as the source's channels, with what it knows beside it."""
    rng = np.random.default_rng(1)
    coeff = 1e-5 * (rng.standard_normal((1, 8, 3, 4)) + 1j * rng.standard_normal((1, 8, 3, 4)))
    content = {"coeff": coeff, "delay": rng.uniform(0, 1e-6, (3, 4)), "center_frequency": 6e9}
    scipy.io.savemat(tmp_path / "chan.mat", content)
    out = tmp_path / "out.mat"
    band = ("--subcarriers", 3, "--bandwidth-mhz", 30)
    done = nflae("simulate", "-o", out, "--source", f"quadriga:{tmp_path / 'chan.mat'}", *band)
    assert done.exit_code == 0, done.output
    assert "H 8 x 1 x 12, source quadriga, 1 of 1 users per drop" in done.output
    expected = channels("quadriga", file=tmp_path / "chan.mat", subcarriers=3, bandwidth=30e6)
    with open_channels(out, variable="H") as file:
        assert (file.layout, file.convention) == ("nks", "hermitian")
        np.testing.assert_array_equal(file.read(0, 12), expected)
        power = (np.abs(expected) ** 2).sum(-1).mean()
        assert file.scalars["noise_power"] == pytest.approx(power / 100, rel=1e-5)
    told = scipy.io.loadmat(out)
    assert told["source"].item() == "quadriga"
    assert (told["carrier_hz"].item(), told["subcarriers"].item()) == (6e9, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--source", "ray"], 1, "nflae: error: unknown source 'ray': there are cdl, "),
        (["--source", "umi", "--scenario", "paper"], 2, "give it or --source umi, not both"),
        (["--source", "quadriga:absent.mat"], 1, "nflae: error: absent.mat: no such file"),
        (["--source", "matlab5g:."], 1, "is a directory, not a .mat file"),
        (["--source", "deepmimo:."], 1, "no params.json"),
    ],
)
def test_simulate_fails_in_one_line(nflae: Run, tmp_path: Path, arguments: list[str], status: int, told: str) -> None:
    done = nflae("simulate", "-o", tmp_path / "out.mat", *arguments)
    assert done.exit_code == status
    assert told in done.output
    assert not (tmp_path / "out.mat").exists()


def test_simulate_sionna(nflae: Run, tmp_path: Path) -> None:
    if importlib.util.find_spec("sionna") is None:
        pytest.skip("sionna-no-rt is not installed")
    size = ("--drops", 2, "--users", 3, "--antennas", 16)
    assert nflae("simulate", "-o", tmp_path / "out.mat", "--source", "umi", *size, "--carrier-ghz", 3.5).exit_code == 0
    with open_channels(tmp_path / "out.mat") as file:
        expected = channels("umi", drops=2, users=3, antennas=16, carrier=3.5e9)
        np.testing.assert_array_equal(file.read(0, 2), expected)
    assert scipy.io.loadmat(tmp_path / "out.mat")["carrier_hz"].item() == 3.5e9
