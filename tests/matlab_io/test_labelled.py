"""Results as data frames and datasets: axes, coordinates, units and values, for every class of results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from matlab_io.errors import NflaeError
from matlab_io.labelled import ArrayResult
from matlab_io.result import OPTIONAL_ARRAYS, RESULT_ARRAYS, Result
from nflae_bridge import estimate, feedback, precode, predict
from nflae_bridge.studies.evaluation.scores import Evaluation, Score
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import scheme
from tests.channel_files import random_channels

DROPS, USERS, ANTENNAS = 6, 3, 16
CHANNELS = random_channels(DROPS, USERS, ANTENNAS)
WAVES = np.exp(2j * np.pi * (0.31 * np.arange(ANTENNAS) + 0.02 * np.arange(24)[:, None, None])) * np.ones((24, 2, 1))


def made(**arrays: Any) -> Result:
    """Return a result of chosen arrays, the others of the right shape and all different."""
    rng = np.random.default_rng(5)
    drawn = {each.field: rng.random(each.shape(DROPS, USERS, ANTENNAS)).astype(each.dtype) for each in RESULT_ARRAYS}
    return Result(**(drawn | arrays))


def evaluation() -> Evaluation:
    scores = [
        Score("rzf", 20.5, 20.0, 21.0, 1, 0.0, 0.0, 0, 0, 1e-4),
        Score("optimiser", 21.5, 21.0, 22.0, 1, 0.1, 0.25, 1, 2, None),
    ]
    return Evaluation(scores, 22.0, 100, 3, 8, 0.4, 50, [])


RESULTS: dict[str, tuple[Callable[[], ArrayResult], dict[str, tuple[str, ...]], str]] = {
    "precode": (
        lambda: precode(CHANNELS, scheme="rzf", noise_power=0.1),
        {"precoder": ("drop", "user", "antenna"), "rate": ("drop", "user"), "sum_rate": ("drop",)},
        "Result(drop 6, user 3, antenna 16: precoder, power, uplink_power, near_field_score, near_field, sinr, rate,"
        " sum_rate, feasible, fallback)",
    ),
    "streams": (
        lambda: precode(
            CHANNELS.reshape(3, 2, USERS, ANTENNAS).swapaxes(1, 2),
            layout="skrn",
            convention="hermitian",
            receive_antennas="joint",
            streams=2,
            noise_power=0.1,
        ),
        {
            "precoder": ("drop", "user", "stream", "antenna"),
            "rate": ("drop", "user", "stream"),
            "near_field": ("drop", "user"),
            "receive_combiner": ("drop", "user", "stream", "receive_antenna"),
        },
        "Result(drop 3, user 3, stream 2, antenna 16, receive_antenna 2: precoder, power,",
    ),
    "hybrid": (
        lambda: precode(CHANNELS, rf_chains=4, noise_power=0.1),
        {"analog": ("drop", "rf_chain", "antenna"), "digital": ("drop", "user", "rf_chain")},
        "Result(drop 6, user 3, antenna 16, rf_chain 4: precoder,",
    ),
    "predict": (
        lambda: predict(WAVES, ahead=3, method="ar", paths=True),
        {"channels": ("ahead", "user", "antenna"), "method": ("user",), "path_gain": ("user", "path")},
        "PredictedChannels(ahead 3, user 2, antenna 16, path ",
    ),
    "estimate": (
        lambda: estimate(WAVES + 0.1 * random_channels(24, 2, ANTENNAS), method="omp"),
        {"channels": ("drop", "user", "antenna"), "csi_error_db": ("drop", "user"), "method": ("drop", "user")},
        "EstimatedChannels(drop 24, user 2, antenna 16: channels, csi_error_db, method)",
    ),
    "feedback": (
        lambda: feedback(WAVES[:4], 64),
        {"reports": ("snapshot", "user", "byte"), "channels": ("snapshot", "user", "antenna")},
        "Feedback(snapshot 4, user 2, byte 8, antenna 16: reports, channels, csi_error_db, sgcs)",
    ),
    "scheme": (
        lambda: scheme("zf")(ChannelBatch(torch.from_numpy(CHANNELS)), LinkBudget(noise_power=0.1)),
        {"precoder": ("drop", "user", "antenna"), "sum_rate": ("drop",)},
        "Precoding(drop 6, user 3, antenna 16: precoder, power, uplink_power, feasible, fallback)",
    ),
    "evaluate": (
        evaluation,
        {"mean": ("scheme",), "seconds_per_drop": ("scheme",)},
        "Evaluation(scheme 2: mean, low, high, block, infeasible, fallback, violated, below, seconds_per_drop)",
    ),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_every_result_has_named_axes_and_a_short_representation(kind: str) -> None:
    make, axes, shown = RESULTS[kind]
    result = make()
    data = result.to_xarray()
    assert {name: data[name].dims for name in axes} == axes
    for name in axes:
        if hasattr(result, name):
            np.testing.assert_array_equal(data[name].values, np.asarray(getattr(result, name)))
    assert set(data.dims) == set(data.coords)
    assert repr(result).startswith(shown)
    assert len(repr(result)) < 250
    assert "\n" not in repr(result)
    table = result.to_dataframe()
    assert set(table.index.names) <= {"drop", "user", "stream", "ahead", "snapshot", "scheme"}
    assert set(table.columns) == {str(name) for name in data if set(data[name].dims) <= set(table.index.names)}
    for name in table.columns:  # by the way of xarray: the same values at the same coordinates
        there = data[name].to_series()
        rows = table[name].groupby(list(data[name].dims), sort=False).first()
        pd.testing.assert_series_equal(rows, there, check_dtype=False, check_index_type=False)


def test_a_dataset_holds_all_that_makes_the_result_again() -> None:
    result = made(digital=np.arange(DROPS * USERS * 4, dtype=np.complex64).reshape(DROPS, USERS, 4))
    data = result.to_xarray()
    held = {each.name: data[each.field].values for each in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS) if each.field in data}
    again = Result.from_arrays(held)
    for each in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS):
        ours, theirs = getattr(result, each.field), getattr(again, each.field)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)
            assert theirs.dtype == each.dtype


def test_a_frame_has_a_row_per_user_with_units() -> None:
    result = made()
    table = result.to_dataframe()
    assert table.index.names == ["drop", "user"]
    assert len(table) == DROPS * USERS
    for drop in range(DROPS):
        for user in range(USERS):
            assert table.loc[(drop, user), "power"] == result.power[drop, user]
            assert table.loc[(drop, user), "sum_rate"] == result.sum_rate[drop]
    assert table["near_field"].dtype == bool
    assert table.attrs["units"] == {
        each.field: each.unit for each in RESULT_ARRAYS if each.field not in ("precoder", "analog")
    }
    np.testing.assert_array_equal(table["rate"].unstack("user").to_numpy(), result.rate)


def test_named_arrays_bring_their_axes() -> None:
    result = made()
    table = result.to_dataframe("power", "precoder", "power")
    assert list(table.columns) == ["power", "precoder"]
    assert table.index.names == ["drop", "user", "antenna"]
    assert table.loc[(4, 2, 7), "precoder"] == result.precoder[4, 2, 7]
    assert table.loc[(4, 2, 7), "power"] == result.power[4, 2]
    assert result.to_dataframe("sum_rate").index.name == "drop"
    with pytest.raises(NflaeError, match=r"^Result has no array 'lambda'; give names of precoder, power, "):
        result.to_dataframe("power", "lambda")


def test_drops_are_divided_into_the_axes_they_were_made_of() -> None:
    result = made()
    data = result.to_xarray(drop_axes={"subcarrier": 2, "drop": 3})
    assert data["rate"].dims == ("subcarrier", "drop", "user")
    assert float(data["rate"].sel({"subcarrier": 1, "drop": 2, "user": 0})) == result.rate[5, 0]
    assert data["sum_rate"].shape == (2, 3)
    table = result.to_dataframe("sum_rate", drop_axes={"subcarrier": 2, "slot": 3})
    assert table.loc[(1, 0), "sum_rate"] == result.sum_rate[3]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"subcarrier": 4}, "drop_axes has 4 drops, the result 6; give the sizes"),
        ({"subcarrier": -2, "drop": -3}, "drop_axes has -2 x -3 drops"),
        ({}, "drop_axes has no drops, the result 6"),
        ({"user": 6}, "drop_axes names 'user', which is another axis"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: dict[str, int], words: str) -> None:
    with pytest.raises(NflaeError, match=f"^{words}"):
        made().to_xarray(drop_axes=axes)


def test_a_result_without_drops_has_none_to_divide() -> None:
    with pytest.raises(NflaeError, match=r"^drop_axes: the axes are scheme, without drops"):
        evaluation().to_dataframe(drop_axes={"drop": 2})


def test_coordinates_and_attributes() -> None:
    table = evaluation().to_dataframe()
    assert list(table.index) == ["rzf", "optimiser"]
    assert table.loc["optimiser", "mean"] == 21.5
    assert np.isnan(table.loc["optimiser", "seconds_per_drop"])
    assert table.attrs["units"]["seconds_per_drop"] == "s"
    assert table.attrs["capacity"] == 22.0
    found = predict(WAVES, ahead=3, method="ar").to_xarray()
    assert found["ahead"].values.tolist() == [1, 2, 3]
    assert found["csi_error_db"].attrs["units"] == "dB"
    assert found["user"].values.tolist() == [0, 1]


def test_labels_are_not_computed_for_a_representation() -> None:
    found = scheme("zf")(ChannelBatch(torch.from_numpy(CHANNELS)), LinkBudget(noise_power=0.1))
    assert isinstance(found, Precoding)
    repr(found)
    assert not {"_labels", "sinr", "rate"} & set(vars(found))


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_dataframe"), ("xarray", "to_xarray")])
def test_a_missing_package_is_one_line_with_the_command(
    package: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NflaeError, match=rf"^Result.{call} needs the extra 'tables' \({package} is not .*pip install"):
        getattr(made(), call)()
