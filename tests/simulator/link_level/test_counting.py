"""Intervals hold what they promise, and points stop where they should whoever computed their units."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import binomtest

from nflae_bridge.studies.link.sweep import Point
from nflae_bridge.studies.link.unit_journal import Outcome
from simulator.link_level.chain import Received
from simulator.link_level.counting import Tally, clopper_pearson, enough, tally


def counted(bits: npt.NDArray[np.int64], errors: npt.NDArray[np.int64]) -> Tally:
    """The tally of one user's blocks."""
    lost = errors > 0
    sums = {
        "chances": len(bits),
        "blocks": len(bits),
        "block_errors": lost.sum(),
        "bits": bits.sum(),
        "bit_errors": errors.sum(),
        "errors_squared": (errors**2).sum(),
        "errors_times_bits": (errors * bits).sum(),
        "bits_squared": (bits**2).sum(),
        "delivered_bits": (bits * ~lost).sum(),
    }
    return Tally(*(np.array([float(sums.get(field.name, 0))]) for field in fields(Tally)))


@pytest.mark.parametrize(("errors", "trials"), [(0, 20), (1, 20), (7, 50), (20, 20), (200, 12345)])
def test_clopper_pearson(errors: int, trials: int) -> None:
    exact = binomtest(errors, trials).proportion_ci(0.95, method="exact")
    low, high = clopper_pearson([errors], [trials])
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), rel=1e-9)


def test_no_trials_no_interval() -> None:
    assert np.isnan(clopper_pearson([0.0], [0.0])).all()


@pytest.mark.parametrize("burst", [False, True])
def test_bit_intervals_hold_the_truth_19_times_in_20(burst: bool) -> None:
    """Independent bit errors, and errors that come in bursts of a third of a failed block."""
    rng = np.random.default_rng(1)
    bits, truth, within = np.full(400, 300), 0.02, 0
    for _ in range(400):
        errors = rng.binomial(300, truth, 400)
        if burst:
            errors = np.where(rng.random(400) < 3 * truth, rng.binomial(300, 1 / 3, 400), 0)
        low, high = counted(bits, errors).bit_interval()
        within += bool(low[0] <= truth <= high[0])
    assert 0.92 <= within / 400 <= 0.995


def test_without_an_error_blocks_are_the_trials() -> None:
    low, high = counted(np.full(50, 300), np.zeros(50, np.int64)).bit_interval()
    assert (low[0], high[0]) == pytest.approx(binomtest(0, 50).proportion_ci(0.95, method="exact"), rel=1e-9)


def received() -> Received:
    """Two drops of three users: one without a block, one with a single wrong bit, one without power at all."""
    sent = torch.tensor([[True, False, True], [True, True, False]])
    bits = torch.tensor([[100, 0, 40], [60, 80, 0]])
    errors = torch.tensor([[1, 0, 0], [0, 7, 0]])
    energy = torch.tensor([[2.0, 0.0, 3.0], [4.0, 5.0, 0.0]]).double()
    sinr = torch.tensor([[3.0, 1.0, 7.0], [15.0, 0.5, 0.0]]).double()
    return Received(sent, bits, errors, energy, sinr)


@pytest.mark.parametrize("each", ["user", "drop"])
def test_a_tally_is_the_sum_over_blocks_by_definition(each: str) -> None:
    batch, symbols = received(), 12
    expected_rate, near_field = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    found = tally(batch, symbols, expected_rate, near_field, each)
    sums: dict[str, npt.NDArray[np.float64]] = {f.name: np.zeros(3 if each == "user" else 2) for f in fields(Tally)}
    for drop in range(2):
        for user in range(3):
            bits, errors = float(batch.information_bits[drop, user]), float(batch.bit_errors[drop, user])
            sinr = float(batch.sinr[drop, user])
            of_all = {
                "chances": 1.0,
                "near_field": float(near_field[drop, user]),
                "rate": np.log2(1 + sinr),
                "expected_rate": float(expected_rate[drop, user]),
            }
            of_sent = {
                "blocks": 1.0,
                "block_errors": float(errors > 0),
                "bits": bits,
                "bit_errors": errors,
                "errors_squared": errors**2,
                "errors_times_bits": errors * bits,
                "bits_squared": bits**2,
                "delivered_bits": bits if errors == 0 else 0.0,
                "symbols": symbols,
                "error_energy": float(batch.error_energy[drop, user]),
                "inverse_sinr": symbols / sinr if sinr else np.inf,
            }
            for name, value in (of_all | (of_sent if batch.sent[drop, user] else {})).items():
                sums[name][user if each == "user" else drop] += value
    for name, expected in sums.items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12, err_msg=name)
    assert found.pooled().blocks == 4
    both = found.followed_by(found + found)
    np.testing.assert_allclose(both.bits, np.concatenate([found.bits, 2 * found.bits]))


def test_ratios_by_definition_and_none_without_blocks() -> None:
    zero = torch.zeros(2, 3)
    found = tally(received(), 12, zero, zero)
    np.testing.assert_allclose(found.bler, [1 / 2, 1, 0])
    np.testing.assert_allclose(found.ber, [1 / 160, 7 / 80, 0])
    np.testing.assert_allclose(found.evm_db, 10 * np.log10([6 / 24, 5 / 12, 3 / 12]))
    np.testing.assert_allclose(found.sinr_db, 10 * np.log10([2 / (1 / 3 + 1 / 15), 0.5, 7]))
    low, high = found.block_interval()
    assert (low[0], high[0]) == pytest.approx(tuple(binomtest(1, 2).proportion_ci(0.95, method="exact")))
    nothing = tally(replace(received(), sent=torch.zeros(2, 3, dtype=torch.bool)), 12, zero, zero)
    for ratio in (nothing.bler, nothing.evm_db, nothing.sinr_db):
        assert np.isnan(ratio).all()


def test_intervals_are_never_narrower_than_those_of_independent_bits() -> None:
    """Blocks that are more alike than chance would have it (one error each) gain no certainty by it."""
    low, high = counted(np.full(50, 100), np.ones(50, np.int64)).bit_interval()
    exact = binomtest(50, 5000).proportion_ci(0.95, method="exact")
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), rel=1e-9)


def outcomes() -> list[Outcome]:
    rng = np.random.default_rng(2)
    made = []
    for index in range(5):
        tallies = {
            name: counted(np.full(10, 100), rng.binomial(100, rate, 10)) for name, rate in (("a", 0.01), ("b", 0.1))
        }
        made.append(Outcome(0.0, index, tallies, {}))
    return made


def test_a_point_stops_at_the_same_unit_in_whatever_order_units_come() -> None:
    found = outcomes()
    needed = 1 + next(
        n for n in range(5) if sum(float(each.tallies["a"].block_errors[0]) for each in found[: n + 1]) >= 15
    )
    assert needed in (2, 3, 4)
    for order in permutations(range(5)):
        point = Point(0.0, max_batches=5)
        for index in order:
            point.add(found[index], errors=15, coded=True)
        assert point.stopped
        assert point.counted == needed
        assert point.sums["b"].bit_errors == sum(each.tallies["b"].bit_errors for each in found[:needed])


def test_every_scheme_has_to_have_enough() -> None:
    both = list(outcomes()[0].tallies.values())
    fewest = int(min(each.block_errors[0] for each in both))
    assert enough(both, fewest, coded=True)
    assert not enough(both, fewest + 1, coded=True)
    assert enough(both, fewest + 1, coded=False) == (min(float(each.bit_errors[0]) for each in both) > fewest)


def test_a_tally_survives_its_record() -> None:
    kept = outcomes()[0].tallies["a"] + outcomes()[1].tallies["a"]
    again = Tally.from_lists(kept.as_lists())
    assert all(np.array_equal(getattr(kept, f.name), getattr(again, f.name)) for f in fields(Tally))
