"""nflae_bridge.predict: invariances, times and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nflae_bridge
from matlab_io.errors import NflaeError
from tests.moving_users import moving_users


@settings(max_examples=15)
@given(st.permutations(range(4)), st.sampled_from(["hold", "ar", "auto"]), st.integers(0, 100))
def test_permuting_the_users_permutes_the_answer(order: list[int], method: str, seed: int) -> None:
    history = moving_users(12, users=4, antennas=8, seed=seed, snr_db=15.0)
    found = nflae_bridge.predict(history, ahead=2, method=method)
    again = nflae_bridge.predict(history[:, order], ahead=2, method=method)
    scale = np.abs(history).max()
    np.testing.assert_allclose(again.channels, found.channels[:, order], atol=1e-4 * scale)
    np.testing.assert_allclose(again.csi_error_db, found.csi_error_db[:, order], atol=0.05)
    assert again.method == tuple(found.method[user] for user in order)


def test_a_cuda_device_is_said_not_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.engine.devices.choose_device", lambda name: torch.device("cpu"))
    history = moving_users(8, antennas=4)
    found = nflae_bridge.predict(history, ahead=2, device="cuda:0")
    assert found.notes == ("device cuda:0: a prediction is computed on the CPU",)
    assert nflae_bridge.predict(history, ahead=2, device="cpu").notes == ()


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(NflaeError, match="no device is called 'warp'"):
        nflae_bridge.predict(moving_users(8, antennas=4), ahead=2, device="warp")


def test_two_axes_and_layouts_are_read_as_by_precode() -> None:
    history = moving_users(16, antennas=8)
    found = nflae_bridge.predict(history, ahead=2, method="ar")
    assert found.channels.shape == (2, 3, 8)
    assert found.channels.dtype == np.complex64
    assert found.csi_error_db.shape == (2, 3)
    matlab = nflae_bridge.predict(history.T, ahead=2, method="ar", layout="nks")
    np.testing.assert_allclose(matlab.channels, found.channels, atol=1e-5)
    rows = nflae_bridge.predict(history.conj(), ahead=2, method="ar", layout="skn", convention="direct")
    np.testing.assert_allclose(rows.channels, found.channels, atol=1e-5)


def test_uneven_times_are_resampled_before_the_prediction() -> None:
    places = 10 * np.arange(20) + np.random.default_rng(5).integers(-2, 3, 20)
    spacing = (places[-1] - places[0]) / 19
    amplitudes = np.abs(moving_users(1, antennas=8))

    def wave(at: Any) -> Any:
        return np.exp(0.03j * np.asarray(at))[:, None, None] * amplitudes

    found = nflae_bridge.predict(wave(places), times=places * 1e-4, ahead=4, method="ar")
    assert any("resampled" in note for note in found.notes)
    expected = wave(places[-1] + spacing * np.arange(1, 5))
    assert np.linalg.norm(found.channels - expected) < 0.1 * np.linalg.norm(expected)
    ignored = nflae_bridge.predict(wave(places), ahead=4, method="ar")
    assert np.linalg.norm(ignored.channels - expected) > np.linalg.norm(found.channels - expected)


def broken(change: str) -> dict[str, Any]:
    history, times = moving_users(16), np.arange(16) * 1e-3
    if change == "times":
        times[7] = times[6]
    elif change == "gaps":
        history[2:7, 1] = np.nan
    elif change == "exchange":
        history[9:] = history[9:, [0, 2, 1]]
    elif change == "jump":
        history[9:, 2] *= 1e3
    return {"history": history, "times": times, "method": "ar"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("times", "history: times do not rise: snapshot 8 at 0.006 s follows snapshot 7"),
        ("gaps", "history: snapshot 3, user 2: NaN, Inf or zero at every antenna; 5 of the 16"),
        ("exchange", "history: snapshot 10, user 3: is user 2 of the snapshot before"),
        ("jump", r"history: snapshot 10, user 3: the gain changes by \+"),
    ],
)
def test_what_cannot_be_predicted_is_named(change: str, told: str) -> None:
    with pytest.raises(NflaeError, match=told) as error:
        nflae_bridge.predict(**broken(change))
    assert "\n" not in str(error.value)
    if change in ("exchange", "jump"):
        assert "or pass force=True" in str(error.value)
        assert len(nflae_bridge.predict(**broken(change), force=True).notes) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ahead": 9}, "9 snapshots ahead is beyond half the history of 16"),
        ({"ahead": 0}, "at least 1"),
        ({"geometry": "panel:5x5"}, "geometry panel:5x5 has 25 antennas, the channels have 16"),
        ({"csi_snr_db": float("nan")}, "csi_snr_db must be a number"),
        ({"method": "best"}, "no prediction method 'best'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(NflaeError, match=told):
        nflae_bridge.predict(moving_users(16), **arguments)


def test_a_history_of_two_axes_has_two_readings() -> None:
    history = moving_users(20, users=1)[:, 0]
    with pytest.raises(NflaeError, match=r"\(20, 16\) has two axes: pass history\[:, None\] .* or history\[None\]"):
        nflae_bridge.predict(history)
    assert nflae_bridge.predict(history, layout="kn", convention="hermitian").channels.shape == (4, 20, 16)
    assert nflae_bridge.predict(history[:, None], ahead=1, method="ar").channels.shape == (1, 1, 16)


def test_one_snapshot_is_held() -> None:
    found = nflae_bridge.predict(moving_users(1), ahead=3)
    np.testing.assert_allclose(found.channels, np.repeat(moving_users(1), 3, axis=0), atol=1e-6)
    assert found.method == ("hold",) * 3
    assert found.notes == ("one snapshot has no past: it is held",)
