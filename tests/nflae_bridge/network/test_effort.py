"""Model and refinement of each effort, and the options that an effort excludes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from matlab_io.errors import NflaeError
from nflae_bridge.api.precode import precode
from nflae_bridge.cli.group import main
from nflae_bridge.network.shipped import EFFORTS, SHIPPED, model_of_effort


def channels() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, 4, 16)) + 1j * rng.normal(size=(3, 4, 16))) / np.sqrt(32)


def test_an_effort_is_its_model_and_refinement() -> None:
    assert model_of_effort(None, "tiny", 3) == ("tiny", 3)
    for effort, (model, refine) in EFFORTS.items():
        assert model == "auto" or (SHIPPED / model / "model.json").is_file()
        found = precode(channels(), noise_power=0.01, effort=effort)
        expected = precode(channels(), noise_power=0.01, model=model, refine=refine)
        np.testing.assert_allclose(found.power, expected.power, rtol=1e-5, atol=1e-8)


def test_more_effort_costs_no_sum_rate() -> None:
    rates = [precode(channels(), noise_power=0.01, effort=effort).sum_rate.mean() for effort in ("fast", "balanced")]
    assert rates[0] <= rates[1] * (1 + 1e-5)


PROBLEMS: dict[str, dict[str, Any]] = {
    "weights": {"weights": np.geomspace(0.05, 3, 12)},
    "weights and limits": {"weights": np.geomspace(0.05, 3, 12), "min_rate": 0.05, "alpha_c": 0.4},
    "antennas": {"power_per_antenna": 0.05},
    "hybrid": {"rf_chains": 12},
}


@pytest.mark.parametrize("options", PROBLEMS.values(), ids=PROBLEMS)
def test_more_effort_lowers_no_objective(options: dict[str, Any]) -> None:
    """The iterations are for the plain sum rate; the objective of another problem may fall by them."""
    rng = np.random.default_rng(5)
    drops = (rng.normal(size=(40, 12, 12)) + 1j * rng.normal(size=(40, 12, 12))) / np.sqrt(24)
    given = {"noise_power": 1.0, "near_field": rng.random((40, 12)) < 0.5, **options}
    fast, balanced = (precode(drops, effort=effort, **given) for effort in ("fast", "balanced"))
    reached, least = ((each.rate * options.get("weights", 1)).sum(-1) for each in (balanced, fast))
    alike = fast.feasible == balanced.feasible
    assert (reached >= least * (1 - 2e-6))[alike].all()
    assert (balanced.feasible | ~fast.feasible).all()
    assert (reached > least * 1.0001).any()


@pytest.mark.parametrize(("given", "match"), [({"model": "tiny"}, "model 'tiny'"), ({"refine": 1}, "refine 1")])
def test_model_and_refinement_beside_an_effort_are_refused(given: dict[str, object], match: str) -> None:
    with pytest.raises(NflaeError, match=f"leave out {match} or the effort"):
        precode(channels(), noise_power=0.01, effort="fast", **given)  # type: ignore[arg-type]
    with pytest.raises(NflaeError, match="unknown effort 'slow': expected fast, balanced, best"):
        precode(channels(), noise_power=0.01, effort="slow")


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_is_not_ignored_by_another_scheme(effort: str) -> None:
    with pytest.raises(NflaeError, match=f"effort='{effort}' applies to scheme='nflae' only; leave it out"):
        precode(channels(), noise_power=0.01, effort=effort, scheme="rzf")
    answer = CliRunner().invoke(main, ["precode", "in.mat", "-o", "out.mat", "--effort", effort, "--scheme", "zf"])
    assert answer.exit_code == 2
    assert "--effort applies to --scheme nflae only; leave it out with zf." in answer.output


def test_the_command_refuses_both_as_wrong_usage() -> None:
    answer = CliRunner().invoke(main, ["precode", "in.mat", "-o", "out.mat", "--effort", "fast", "--refine", "1"])
    assert answer.exit_code == 2
