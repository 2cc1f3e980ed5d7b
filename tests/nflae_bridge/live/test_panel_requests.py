"""Labels of panels: Python, the wire and files give those of the fitted waves, whatever the scheme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from matlab_io.errors import NflaeError
from nflae_bridge import Client, precode
from nflae_bridge.live.errors import BadRequest
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panels import parse_panel, spherical_wave
from tests.channel_files import Run
from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import require_zeromq, run_octave

NAME = "upa:8x12"


def near_drops() -> np.ndarray:
    """Channels (4, 3, 96) of users on both sides of the border of the near field."""
    array, generator = parse_panel(NAME), torch.Generator().manual_seed(3)
    direction = torch.rand(4, 3, 2, generator=generator).double() - 0.5
    distance = 0.08 + 0.3 * torch.rand(4, 3, generator=generator).double()
    return spherical_wave(array, direction, distance).numpy()


H = near_drops()
SCORE = panel_near_field_score(parse_panel(NAME), torch.from_numpy(H)).numpy()
NEAR = SCORE > 0.5


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer() as running:
        yield running


def test_population_has_users_of_both_kinds() -> None:
    assert 2 <= NEAR.sum() <= 10
    assert not np.array_equal(NEAR, precode(H).near_field)  # as a line


@pytest.mark.parametrize("scheme", ["rzf", "nflae"])
def test_python_and_server_label_by_the_panel(server: LiveServer, scheme: str) -> None:
    options = {"near_field": NAME, "scheme": scheme, "alpha_c": 0.3, "noise_power": 0.01}
    with Client(server.address) as client:
        for result in (precode(H, **options), client.precode(H, **options)):
            np.testing.assert_array_equal(result.near_field, NEAR)
            np.testing.assert_allclose(result.near_field_score, SCORE, atol=1e-4)
            mixed = NEAR.any(1) & ~NEAR.all(1)
            assert (np.where(NEAR, result.power, 0).sum(1)[mixed] <= 0.3 + 1e-6).all()
        given = client.precode(H, **{**options, "near_field": NEAR})
        np.testing.assert_allclose(given.power, result.power, atol=1e-5)
        weighted = client.precode(H, weights=[1, 2, 1], **options)
        np.testing.assert_array_equal(weighted.near_field, NEAR)


def test_predicted_channels_are_labelled_by_the_panel(server: LiveServer) -> None:
    history = np.repeat(H[:1], 8, 0)
    with Client(server.address) as client:
        _, found = client.predict_and_precode(
            history, ahead=2, method="hold", near_field=NAME, scheme="rzf", force=True
        )
    np.testing.assert_array_equal(found.near_field, np.repeat(NEAR[:1], 2, 0))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("upa:8x8", "array upa:8x8 has 64 antennas, the channels 96"), ("upb", r"no panel 'upb': .*upa:ROWSxCOLUMNS")],
)
def test_other_arrays_are_refused(server: LiveServer, name: str, reason: str) -> None:
    with pytest.raises(NflaeError, match=reason):
        precode(H, near_field=name)
    reason = reason if name.startswith("upa:") else r"near_field must be .*a panel, 'upa:ROWSxCOLUMNS', got 'upb'"
    with Client(server.address) as client, pytest.raises(BadRequest, match=reason):
        client.precode(H, near_field=name, noise_power=0.01)


def test_files_that_state_no_array_are_labelled_by_the_option(nflae: Run, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "h.mat", {"H": H.transpose(2, 1, 0)})
    common = ("--layout", "nks", "--noise-dbw", -20, "--near-field")
    done = nflae("precode", tmp_path / "h.mat", "-o", tmp_path / "w.mat", *common, NAME, "--scheme", "rzf")
    assert done.exit_code == 0, done.output
    assert f"spherical waves fitted to {NAME}\n" in done.stdout
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "w.mat")["near_field"].T, NEAR)
    compared = nflae("evaluate", tmp_path / "h.mat", *common, NAME, "--schemes", "rzf", "--plot", tmp_path / "p.svg")
    assert compared.exit_code == 0, compared.output
    assert f"{100 * NEAR.mean():.1f} % of the users near-field" in " ".join(compared.stdout.split())
    assert "azimuth [degrees]" in (tmp_path / "p.svg").read_text()
    wrong = nflae("precode", tmp_path / "h.mat", "-o", tmp_path / "v.mat", *common, "upa:9x9")
    assert wrong.exit_code == 1
    assert "array upa:9x9 has 81 antennas, the channels 96" in wrong.stderr
    assert not (tmp_path / "v.mat").exists()


@pytest.mark.octave
def test_octave_client_labels_by_the_panel(server: LiveServer, tmp_path: Path) -> None:
    require_zeromq()
    scipy.io.savemat(tmp_path / "in.mat", {"H": H.transpose(2, 1, 0)})
    run_octave(
        f"load in.mat; c = nflae.Client('{server.address}');"
        f" r = c.precode(H, 'NoisePower', 0.01, 'NearField', '{NAME}', 'Scheme', 'rzf', 'Want', {{'near_field'}});"
        " near = r.near_field; save('-v7', 'out.mat', 'near');",
        tmp_path,
    )
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "out.mat")["near"].T, NEAR)
