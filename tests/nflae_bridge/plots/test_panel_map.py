"""Pictures of planar arrays: beams over azimuth and elevation, users in their directions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from nflae_bridge.files.positions import panel_scene
from nflae_bridge.plots.maps.panel_map import angular_map
from simulator.geometry.panels import UniformPlanarArray, azimuth_and_depression, direction_cosines, spherical_wave
from tests.channel_files import Run

PANEL = UniformPlanarArray(rows=16, columns=16, tilt=math.radians(10))


def test_map_peaks_at_the_users_whatever_the_sign_of_phase() -> None:
    azimuth, depression = torch.tensor([-0.5, 0.2, 0.6]), torch.tensor([0.1, 0.3, -0.2])
    direction, distance = direction_cosines(azimuth, depression, PANEL), torch.tensor([0.8, 2.0, 1.2])
    waves = spherical_wave(PANEL, direction, distance.double())
    for channels in (waves, waves.conj()):
        scene = panel_scene(PANEL, channels)
        found = azimuth_and_depression(scene.direction, PANEL)
        torch.testing.assert_close(found[0], azimuth.double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(found[1], depression.double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(scene.distance, distance.double(), rtol=0.05, atol=0)
        power = torch.tensor([1.0, 2.0, 4.0])
        at_users = angular_map(scene, channels, power, azimuth.double(), depression.double()).diagonal()
        np.testing.assert_allclose(at_users, power, rtol=0.05)


def test_map_is_that_of_exact_waves_around_the_users() -> None:
    array = UniformPlanarArray(12, 16, 2, tilt=math.radians(10))
    azimuth, depression = torch.tensor([-0.5, 0.2]).double(), torch.tensor([0.1, 0.3]).double()
    distance = torch.tensor([0.4, 0.8]).double()
    waves = spherical_wave(array, direction_cosines(azimuth, depression, array), distance)
    channels = torch.cat([waves, 0.5 * waves], -1) / 1.25**0.5
    scene, power = panel_scene(array, channels), torch.tensor([1.0, 0.5])
    across, down = torch.linspace(-0.7, 0.4, 12).double(), torch.linspace(0, 0.4, 9).double()
    expected = np.zeros((9, 12))
    for user in range(2):
        direction = direction_cosines(across.expand(9, 12), down.unsqueeze(1).expand(9, 12), array)
        exact = spherical_wave(array, direction, distance[user].expand(9, 12)).numpy()
        beam = channels[user].numpy().reshape(2, -1)
        expected += float(power[user]) * (abs(exact.conj() @ beam.T) ** 2).sum(-1)
    assert abs(angular_map(scene, channels, power, across, down) - expected).max() < 0.02


def test_panel_file_is_labelled_as_a_panel_and_drawn(nflae: Run, tmp_path: Path) -> None:
    file, out, plot = tmp_path / "panel.mat", tmp_path / "w.mat", tmp_path / "map.svg"
    made = nflae("simulate", "-o", file, "--array", "upa:8x8x2", "--users", 3, "--drops", 2, "--scenario", "paper")
    assert made.exit_code == 0, made.output
    command = ("precode", file, "-o", out, "--near-field", "none", "--plot", plot, "--scheme", "rzf")
    refused = nflae(*command, "--carrier-ghz", 28)
    assert (refused.exit_code, out.exists()) == (1, False)
    assert "--carrier-ghz 28: the map of the panel upa:8x8x2 is over azimuth and elevation" in refused.output
    done = nflae(*command)
    assert done.exit_code == 0, done.output
    assert "spherical waves fitted to upa:8x8x2, the array in panel.mat" in done.stdout
    assert "undecided" not in done.stdout
    compared = nflae("evaluate", file, "--near-field", "none", "--schemes", "rzf")
    assert compared.exit_code == 0, compared.output
    assert "near-field (spherical waves fitted to upa:8x8x2, the array in panel.mat)" in " ".join(
        compared.stdout.split()
    )
    picture = plot.read_text()
    assert "azimuth [degrees]" in picture
