"""`nflae_bridge.precode`: numpy in, numpy out."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import nflae_bridge
from matlab_io.reading.arrays import read_array
from nflae_bridge import BridgeError, NflaeError, precode
from tests.channel_files import random_channels


def channels(drops: int = 6, users: int = 4, antennas: int = 32) -> npt.NDArray[np.complex128]:
    rng = np.random.default_rng(3)
    parts = rng.normal(size=(2, drops, users, antennas))
    return (parts[0] + 1j * parts[1]) / np.sqrt(2 * antennas)


def rates_by_hand(h: npt.NDArray[np.complex128], precoder: npt.ArrayLike, power: npt.ArrayLike) -> npt.NDArray:
    effective = np.einsum("skn,sjn->skj", h.conj(), precoder)
    received = np.abs(effective) ** 2 * np.asarray(power)[:, None, :]
    signal = np.diagonal(received, axis1=1, axis2=2)
    return np.log2(1 + signal / (received.sum(-1) - signal + 0.01))


@pytest.mark.parametrize("scheme", ["mrt", "zf", "rzf", "wmmse", "sdma", "ldma", "nflae"])
def test_rates_are_those_of_the_returned_precoders(scheme: str) -> None:
    h = channels()
    result = precode(h, scheme=scheme)
    np.testing.assert_allclose(rates_by_hand(h, result.precoder, result.power), result.rate, atol=1e-5)
    np.testing.assert_allclose(result.sum_rate, result.rate.sum(1))


def test_one_drop_needs_no_drop_axis() -> None:
    h = channels()
    alone, batch = precode(h[2], scheme="rzf"), precode(h, scheme="rzf")
    np.testing.assert_allclose(alone.precoder[0], batch.precoder[2], atol=1e-6)


def test_given_labels_steer_the_power_shares() -> None:
    labels = np.zeros((6, 4), bool)
    labels[:, :2] = True
    result = precode(channels(), alpha_c=0.2, near_field=labels)
    assert (result.near_field == labels).all()
    assert (result.power[:, :2].sum(1) <= 0.2 + 1e-9).all()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((4, 1, 7), np.nan, "drop 5, user 2, antenna 8 is NaN"),
        ((2, 3, 0), np.inf, "drop 3, user 4, antenna 1 is Inf"),
        ((5, 2), 0, "drop 6, user 3 is zero at every antenna"),
    ],
)
def test_unusable_channels_are_named(place: tuple[int, ...], value: float, words: str) -> None:
    h = channels()
    h[place] = value
    with pytest.raises(NflaeError, match=words):
        precode(h)


def test_real_channels_and_impossible_budgets_are_refused() -> None:
    with pytest.raises(NflaeError, match="must be complex"):
        precode(channels().real)
    for kind in (ValueError, NflaeError):
        with pytest.raises(kind, match="noise_power must be positive"):
            precode(channels(), noise_power=0)


@pytest.mark.parametrize(("db", "stops"), [(-20.2, True), (-19.8, False), (59.8, False), (60.2, True)])
def test_a_default_noise_power_stops_beyond_plausible_snrs(db: float, stops: bool) -> None:
    h = channels()
    median = np.median((np.abs(h) ** 2).sum(-1))
    h = h * np.sqrt(0.5 * 0.01 * 10 ** (db / 10) / median)
    if stops:
        with pytest.raises(
            NflaeError, match=rf"SNR of the median user is {db:.1f} dB with the default.*; pass noise_power"
        ):
            precode(h, power=2.0, scheme="mrt")
    else:
        precode(h, power=2.0, scheme="mrt")
    precode(h, power=2.0, noise_power=0.01, scheme="mrt")


@pytest.mark.parametrize("labels", [np.zeros((2, 2), bool), np.zeros(9, bool), np.full((3, 2), 2)])
def test_labels_of_another_shape_or_value_are_refused(labels: np.ndarray) -> None:
    h = np.tile(channels()[:1], (3, 1, 1))
    with pytest.raises(NflaeError, match=r"near_field must be bool \(drops, users\) = \(3, "):
        precode(h, near_field=labels)


def test_a_negative_number_of_iterations_is_refused() -> None:
    with pytest.raises(NflaeError, match="refine must be a number of iterations of at least 0, got -1"):
        precode(channels(), refine=-1)


@pytest.mark.parametrize(("given", "words"), [({"refine": 3}, "refine=3"), ({"model": "tiny"}, "model='tiny'")])
def test_options_of_the_network_are_refused_with_another_scheme(given: dict[str, Any], words: str) -> None:
    with pytest.raises(NflaeError, match=f"{words} applies to scheme='nflae' only; leave it out with scheme='zf'"):
        precode(channels(), scheme="zf", **given)
    assert precode(channels(), **given).rate.shape == (6, 4)


@pytest.mark.parametrize("given", [{"refine": 3}, {"effort": "best"}, {"model": "tiny"}], ids=str)
def test_options_of_the_network_are_refused_where_it_takes_no_part(given: dict[str, Any]) -> None:
    with pytest.raises(NflaeError, match=f"^{next(iter(given))}=.* has no effect on the objective max-min"):
        precode(channels(), objective="max-min", **given)


@pytest.mark.parametrize("scheme", ["nflae", "zf"])
def test_scores_of_given_labels_are_the_labels(scheme: str) -> None:
    labels = np.arange(24).reshape(6, 4) % 3 == 0
    result = precode(channels(), scheme=scheme, near_field=labels)
    np.testing.assert_array_equal(result.near_field_score, labels)


def test_results_compare_without_an_error() -> None:
    result, again = precode(channels(), scheme="zf"), precode(channels(), scheme="zf")
    assert result == result
    assert result != again
    assert len({result, again}) == 2


PUBLIC_NAMES = {
    "AsyncClient",
    "BadChannels",
    "BadRequest",
    "BridgeError",
    "BudgetError",
    "Client",
    "ConnectionLost",
    "EstimatedChannels",
    "Expired",
    "Feedback",
    "MatFileError",
    "NflaeError",
    "NoAnswer",
    "NoTrack",
    "PredictedChannels",
    "Result",
    "SchemeError",
    "ServerBusy",
    "ServerFault",
    "ServerStopping",
    "TooLarge",
    "__version__",
    "decode_feedback",
    "estimate",
    "feedback",
    "precode",
    "predict",
}
FUNCTIONS = {"decode_feedback", "estimate", "feedback", "precode", "predict"}
NO_ERRORS = FUNCTIONS | {
    "AsyncClient",
    "Client",
    "EstimatedChannels",
    "Feedback",
    "PredictedChannels",
    "Result",
    "__version__",
}


def test_public_names() -> None:
    assert set(dir(nflae_bridge)) == set(nflae_bridge.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(nflae_bridge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Precoder'"):
        nflae_bridge.Precoder  # noqa: B018


def test_every_public_exception_has_one_base() -> None:
    classes = {name: value for name in PUBLIC_NAMES if isinstance(value := getattr(nflae_bridge, name), type)}
    errors = {name for name, value in classes.items() if issubclass(value, Exception)}
    assert errors == PUBLIC_NAMES - NO_ERRORS
    assert all(issubclass(classes[name], NflaeError) for name in errors)
    assert errors - {"BudgetError", "MatFileError", "NflaeError", "SchemeError"} == {
        name for name in errors if issubclass(classes[name], BridgeError)
    }


def test_importing_the_package_is_quick() -> None:
    code = "import sys, nflae_bridge; sys.exit(bool({'torch', 'numpy', 'zmq', 'msgspec', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("axes", ["skn", "kn"])
def test_far_more_users_than_antennas_are_refused_unless_their_axis_is_named(axes: str) -> None:
    drawn = random_channels(1, 17, 4).reshape((1, 17, 4)[3 - len(axes) :])
    with pytest.raises(NflaeError, match=rf"17 users and 4 antennas.* state layout='{axes}'"):
        precode(drawn, scheme="rzf")
    stated = precode(drawn, scheme="mrt", layout=axes, convention="hermitian", noise_power=1)
    assert stated.precoder.shape == (1, 17, 4)
    for few in (random_channels(1, 16, 3), random_channels(1, 17, 5)):
        assert precode(few, scheme="mrt", noise_power=1).precoder.shape == few.shape


@pytest.mark.parametrize("as_tensor", [False, True])
def test_more_users_than_antennas_are_warned_of_at_the_call(as_tensor: bool) -> None:
    given = channels(1, 8, 4)
    words = r"\(1, 8, 4\) are read as 8 users and 4 antennas; if users and antennas are swapped"
    with pytest.warns(UserWarning, match=words) as warned:
        precode(torch.from_numpy(given) if as_tensor else given, scheme="mrt")  # type: ignore[arg-type]
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        precode(given, layout="skn", convention="hermitian", scheme="mrt")


def test_a_layout_of_users_in_rows_needs_a_convention() -> None:
    H = np.exp(2j * np.pi * np.random.default_rng(0).random((3, 8, 2)))  # users x antennas x drops
    with pytest.raises(NflaeError, match=r"layout 'kns' has users in rows.*convention='direct'"):
        precode(H, layout="kns", noise_power=0.1)
    direct = precode(H, layout="kns", convention="direct", noise_power=0.1, scheme="zf")
    assert np.allclose(direct.rate, precode(H.transpose(2, 0, 1).conj(), noise_power=0.1, scheme="zf").rate)
    hermitian = precode(H.transpose(1, 0, 2), layout="nks", noise_power=0.1, scheme="zf")
    assert np.allclose(hermitian.rate, precode(H.transpose(2, 0, 1), noise_power=0.1, scheme="zf").rate)


NOISE = 0.01 * np.array([1.0, 3.0, 0.2, 10.0, 1.0, 0.05])


@pytest.mark.parametrize(
    "given",
    [
        *({"scheme": scheme} for scheme in ("mrt", "zf", "rzf", "wmmse", "sdma", "ldma", "noma", "nflae")),
        {"alpha_c": 0.3, "min_rate": 0.5, "near_field": np.eye(6, 4, dtype=bool)},
        {"weights": [4, 1, 1, 2]},
        {"rf_chains": 8},
        {"power_per_antenna": 1 / 32},
        {"layout": "skrn", "convention": "hermitian", "receive_antennas": "joint"},
    ],
    ids=lambda given: "-".join(map(str, given)) + f"-{given.get('scheme', '')}",
)
def test_a_noise_power_per_drop_is_that_of_each_drop_alone(given: dict[str, Any]) -> None:
    h = channels()
    h = h.reshape(6, 2, 2, 32) if "layout" in given else h
    labels = given.get("near_field", np.zeros((6, h.shape[1]), bool))
    batch = precode(h, noise_power=NOISE, **(given | {"near_field": labels}))
    for drop, noise in enumerate(NOISE):
        alone = precode(h[drop : drop + 1], noise_power=noise, **(given | {"near_field": labels[drop : drop + 1]}))
        np.testing.assert_allclose(batch.rate[drop], alone.rate[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(batch.power[drop], alone.power[0], rtol=1e-3, atol=1e-3)
    assert np.ptp(batch.sum_rate) > 1


def test_powers_split_over_subcarriers_take_a_noise_power_per_subcarrier() -> None:
    h = channels()
    alike = h * np.sqrt(0.01 / NOISE)[:, None, None]
    options: dict[str, Any] = {"layout": "fkn", "convention": "hermitian", "power": 6.0, "power_scope": "total"}
    found, expected = (
        precode(given, noise_power=noise, **options) for given, noise in ((h, NOISE), (alike, np.full(6, 0.01)))
    )
    np.testing.assert_allclose(found.rate, expected.rate, rtol=1e-4)


@pytest.mark.parametrize(
    "noise",
    [NOISE[:3], [0.1] * 4, np.ones((6, 4)), np.ones((6, 1)), NOISE * 1j],
    ids=["3", "4", "6x4", "6x1", "complex"],
)
def test_noise_powers_of_another_length_are_refused_with_the_remedy(noise: Any) -> None:
    with pytest.raises(
        NflaeError, match=r"^noise_power must be one number or \(6,\), one per drop, got .*multiply h_k"
    ):
        precode(channels(), noise_power=noise)


def test_an_impossible_noise_power_names_its_drop() -> None:
    with pytest.raises(nflae_bridge.BudgetError, match=r"noise_power must be positive.*, got -0.1 for drop 5$"):
        precode(channels(), noise_power=[0.1, 0.1, 0.1, 0.1, -0.1, 0])


@pytest.mark.parametrize("function", ["precode", "estimate", "predict", "feedback"])
def test_read_only_channels_are_read_without_a_copy_and_without_a_warning(
    function: str, recwarn: pytest.WarningsRecorder
) -> None:
    h = np.exp(2j * np.pi * 0.31 * np.arange(16) + 0.1j * np.arange(6)[:, None, None]).astype(np.complex64)
    h = h + 0.1 * channels(6, 2, 16).astype(np.complex64)
    before = h.copy()
    h.flags.writeable = False
    torch.set_warn_always(True)  # not only the first time in a process
    call: dict[str, dict[str, Any]] = {"precode": {"scheme": "rzf"}, "predict": {"ahead": 2}, "feedback": {"bits": 64}}
    try:
        getattr(nflae_bridge, function)(h, **call.get(function, {}))
    finally:
        torch.set_warn_always(False)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]
    np.testing.assert_array_equal(h, before)
    taken, _ = read_array(h)
    assert np.shares_memory(taken, h)
    assert taken.flags.writeable
