"""Tensors of PyTorch in, tensors out, equal to the arrays of NumPy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge import estimate, feedback, precode, predict
from nflae_bridge.api.tensors import tensors_as_given
from tests.channel_files import random_channels

H = random_channels(5, 3, 16)
LABELS = np.arange(15).reshape(5, 3) % 2 == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scheme": "rzf", "noise_power": torch.linspace(0.1, 1, 5, dtype=torch.float64)},
        {"near_field": torch.from_numpy(LABELS), "alpha_c": 0.3},
        {"rf_chains": 4},
        {"device": "cpu"},
    ],
    ids=lambda options: ",".join(options) or "default",
)
def test_tensors_hold_what_the_arrays_hold(options: dict[str, Any]) -> None:
    arrays = {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    expected, found = precode(H, **arrays), precode(torch.from_numpy(H), **options)
    for each in fields(expected):
        array, tensor = getattr(expected, each.name), getattr(found, each.name)
        if array is None:
            assert tensor is None
            continue
        assert isinstance(tensor, torch.Tensor)
        assert tensor.device == torch.device("cpu")
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-5, atol=1e-6)  # MKL rounds by the place in memory


def test_views_and_layouts() -> None:
    matrices = torch.from_numpy(H).conj()  # a view: rows of y = H x
    found = precode(channels=matrices.movedim(0, -1), layout="kns", convention="direct", scheme="rzf")
    np.testing.assert_allclose(found.precoder, precode(H, scheme="rzf").precoder, atol=1e-6)


def test_functions_of_sequences_and_pilots_take_tensors_too() -> None:
    conjugated = torch.from_numpy(H.conj()).conj()  # a view without values of its own
    assert conjugated.is_conj()
    for function, options in (
        (predict, {"ahead": 1, "force": True}),
        (estimate, {"noise_variance": 0.1, "method": "ls"}),
        (feedback, {"bits": 64}),
    ):
        np.testing.assert_array_equal(function(conjugated, **options).channels, function(H, **options).channels)


def test_tables_of_a_result_of_tensors() -> None:
    pytest.importorskip("pandas")
    columns = [precode(given, scheme="zf").to_dataframe()["rate"] for given in (H, torch.from_numpy(H))]
    np.testing.assert_array_equal(*columns)


def test_the_device_of_the_channels_is_that_of_computation_and_result() -> None:
    seen = []

    @tensors_as_given
    def compute(channels: Any, *, device: str = "auto") -> Any:
        seen.append((type(channels), device))
        return precode(H, scheme="mrt")

    h = torch.from_numpy(H)
    for options in ({}, {"device": "auto"}, {"device": "cuda:1"}):
        assert isinstance(compute(h, **options).power, torch.Tensor)
    assert isinstance(compute(H).power, np.ndarray)
    assert seen == [(np.ndarray, "cpu"), (np.ndarray, "cpu"), (np.ndarray, "cuda:1"), (np.ndarray, "auto")]


@pytest.mark.gpu
def test_tensors_on_a_gpu() -> None:
    found = precode(torch.from_numpy(H).cuda())
    assert found.precoder.is_cuda  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.sum_rate.cpu(), precode(H).sum_rate, rtol=1e-4)  # type: ignore[attr-defined]


def test_gradients_are_refused_and_faults_named() -> None:
    with pytest.raises(NflaeError, match=r"channels must be .*requires grad.*detach\(\)"):
        precode(torch.from_numpy(H).requires_grad_())
    for kind in (
        torch.ones(2, 2, 8, dtype=torch.bfloat16),
        torch.from_numpy(H).to_sparse(),
        torch.ones(8, device="meta"),
    ):
        with pytest.raises(NflaeError, match="channels must be an array of numbers, got Tensor"):
            precode(kind)
    broken = torch.from_numpy(H.copy())
    broken[3, 1, 4] = torch.nan
    with pytest.raises(NflaeError, match="drop 4, user 2, antenna 5 is NaN"):
        precode(broken)


def test_arrays_import_no_torch_before_the_engine_does() -> None:
    script = "import sys, nflae_bridge.api.precode\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
