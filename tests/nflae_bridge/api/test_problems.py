"""The precoding problems from Python: options in, arrays of the result out, refusals in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge import precode

RNG = np.random.default_rng(0)
H = ((RNG.normal(size=(4, 3, 16)) + 1j * RNG.normal(size=(4, 3, 16))) / np.sqrt(32)).astype(np.complex64)
MULTI = ((RNG.normal(size=(4, 3, 2, 16)) + 1j * RNG.normal(size=(4, 3, 2, 16))) / np.sqrt(32)).astype(np.complex64)


def rates(h: np.ndarray, result: Result, noise: float) -> np.ndarray:
    """Rates by the definition of the SINR."""
    gains = np.abs(np.einsum("skn,sjn->skj", h.conj(), result.precoder)) ** 2 * result.power[:, None, :]
    own = np.einsum("skk->sk", gains)
    return np.log2(1 + own / (noise + gains.sum(-1) - own))


def test_the_plain_problem_is_what_it_was() -> None:
    precode(H, noise_power=0.01)  # from the second call on another backend computes such a batch
    plain = precode(H, noise_power=0.01)
    assert plain.analog is plain.digital is None
    same = precode(H, noise_power=0.01, power=1.0, objective="sum-rate", power_scope="each")
    assert np.array_equal(plain.precoder, same.precoder)
    assert np.array_equal(plain.power, same.power)


def test_labels_of_a_problem_are_those_of_the_model(untrained: Path) -> None:
    own = precode(H, noise_power=0.1, model=untrained).near_field_score
    assert np.array_equal(precode(H, noise_power=0.1, model=untrained, weights=[2, 1, 1]).near_field_score, own)
    assert not np.allclose(precode(H, noise_power=0.1, weights=[2, 1, 1]).near_field_score, own, atol=0.01)


def test_weights_move_rates_to_the_users_with_large_ones() -> None:
    weights = np.array([[8, 1, 1], [1, 8, 1], [1, 1, 8], [8, 1, 1]], float)
    plain, weighted = precode(H, noise_power=0.1), precode(H, noise_power=0.1, weights=weights)
    favoured = weights == 8
    assert (weighted.rate[favoured] > plain.rate[favoured]).all()
    np.testing.assert_allclose(rates(H, weighted, 0.1), weighted.rate, rtol=1e-5)
    assert ((weights * weighted.rate).sum(1) > (weights * plain.rate).sum(1)).all()


def test_antenna_limits_hold_with_and_without_a_total() -> None:
    alone = precode(H, noise_power=0.1, power_per_antenna=0.1)
    both = precode(H, noise_power=0.1, power_per_antenna=0.1, power=1.0)
    for result, total in ((alone, 1.6), (both, 1.0)):
        load = (np.abs(result.precoder) ** 2 * result.power[..., None]).sum(1)
        assert (load <= 0.1 * (1 + 1e-5)).all()
        np.testing.assert_allclose(result.power.sum(1), total, rtol=1e-2)


def test_a_hybrid_array_returns_its_parts() -> None:
    result = precode(H, noise_power=0.1, rf_chains=4, phase_bits=3)
    assert result.analog is not None
    assert result.digital is not None
    assert result.analog.shape == (4, 4, 16)
    assert result.digital.shape == (4, 3, 4)
    phases = np.angle(result.analog) * 8 / (2 * np.pi)
    np.testing.assert_allclose(phases, np.round(phases), atol=1e-4)
    np.testing.assert_allclose(result.digital @ result.analog, result.precoder, atol=1e-5)


@pytest.mark.parametrize("streams", [1, 2])
def test_joint_receivers_return_streams(streams: int) -> None:
    result = precode(
        MULTI, layout="skrn", convention="hermitian", noise_power=0.1, receive_antennas="joint", streams=streams
    )
    axis = () if streams == 1 else (streams,)
    assert result.receive_combiner is not None
    assert result.precoder.shape == (4, 3, *axis, 16)
    assert result.receive_combiner.shape == (4, 3, *axis, 2)
    assert result.rate.shape == result.power.shape == result.sinr.shape == (4, 3, *axis)
    assert result.near_field.shape == (4, 3)
    beams = (result.precoder * np.sqrt(result.power)[..., None]).reshape(4, -1, 16)
    received = np.einsum("skrn,sjn->skrj", MULTI.conj(), beams)
    combined = np.einsum("skmr,skrj->skmj", result.receive_combiner.reshape(4, 3, streams, 2).conj(), received)
    gains = np.abs(combined.reshape(4, 3 * streams, -1)) ** 2
    own = np.einsum("skk->sk", gains)
    expected = own / (0.1 + gains.sum(-1) - own)
    np.testing.assert_allclose(result.sinr.reshape(4, -1), expected, rtol=1e-3)
    assert (result.power.reshape(4, -1).sum(1) <= 1 + 1e-6).all()


def test_one_power_over_subcarriers_beats_equal_shares() -> None:
    fading = H.reshape(2, 2, 3, 16) * np.array([1.0, 0.2]).reshape(1, 2, 1, 1)
    options: dict[str, Any] = {"layout": "sfkn", "convention": "hermitian", "noise_power": 0.1}
    shared = precode(fading, power=2.0, power_scope="total", **options)
    equal = precode(fading, power=1.0, **options)
    assert (shared.power.reshape(2, -1).sum(1) <= 2 * (1 + 1e-6)).all()
    assert (shared.sum_rate.reshape(2, 2).sum(1) > equal.sum_rate.reshape(2, 2).sum(1)).all()


def test_max_min_balances_and_fairness_lies_between() -> None:
    scaled = H * np.array([1, 0.1, 1]).reshape(1, 3, 1)
    results = {name: precode(scaled, noise_power=0.1, objective=name) for name in ("max-min", "proportional-fair")}
    plain = precode(scaled, noise_power=0.1)
    np.testing.assert_allclose(results["max-min"].rate.max(1), results["max-min"].rate.min(1), rtol=1e-3)
    least = [result.rate.min(1) for result in (results["max-min"], results["proportional-fair"], plain)]
    assert (least[0] >= least[1]).all()
    assert (least[1] >= least[2] - 1e-6).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1, -1, 1]}, "weights must be finite and not negative; value 2 is -1"),
        ({"weights": [1, 1]}, "weights must hold one value for each of the 3 users"),
        ({"power_per_antenna": [1.0, 2.0]}, "one for each of the 16 antennas; got 2"),
        ({"rf_chains": 2}, "rf_chains must be from 3, the number of streams, to 16"),
        ({"rf_chains": 4, "phase_bits": 0}, "phase_bits must be a whole number of at least 1, got 0"),
        ({"streams": 2}, "streams applies together with receive_antennas='joint' only"),
        ({"power_scope": "total"}, "power_scope='total' needs a subcarrier axis; name it f in layout"),
        ({"objective": "max-min", "rf_chains": 4}, "hybrid array + max-min cannot be solved together; there are"),
        (
            {"objective": "max-min", "min_rate": 1.0},
            "min_rate cannot be held with max-min; it can with the plain sum rate",
        ),
        ({"scheme": "mrt", "weights": [1, 1, 1]}, "scheme mrt does not solve weights; there are nflae, wmmse, rzf"),
        ({"scheme": "omp"}, "scheme omp solves hybrid array only"),
        ({"scheme": "wmmse:steps=3", "weights": [1, 1, 1]}, "scheme wmmse has no option 'steps'"),
        ({"receive_antennas": "joint"}, "layout 'skn' has no such axis; name it r"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NflaeError) as caught:
        precode(H, noise_power=0.1, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight'"):
        precode(H, noise_power=0.1, weight=[1, 1, 1])  # type: ignore[call-arg]
