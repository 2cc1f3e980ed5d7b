"""Intervals hold what they promise, and points stop where they should whoever computed their units."""

from __future__ import annotations

from dataclasses import fields
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from nflae_bridge.studies.link.sweep import Point
from nflae_bridge.studies.link.unit_journal import Outcome
from simulator.link_level.counting import Tally, clopper_pearson, enough


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
    tally = outcomes()[0].tallies["a"] + outcomes()[1].tallies["a"]
    again = Tally.from_lists(tally.as_lists())
    assert all(np.array_equal(getattr(tally, f.name), getattr(again, f.name)) for f in fields(Tally))
