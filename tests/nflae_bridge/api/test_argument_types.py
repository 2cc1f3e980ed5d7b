"""Arguments of wrong types: one line that names the argument, for every function of the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nflae_bridge
from matlab_io.arguments import checked, convert_argument, kept
from matlab_io.errors import NflaeError
from tests.channel_files import random_channels

CHANNELS = random_channels(4, 2, 8)
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "precode": (nflae_bridge.precode, {"channels": CHANNELS}),
    "predict": (nflae_bridge.predict, {"history": CHANNELS}),
    "estimate": (nflae_bridge.estimate, {"received": CHANNELS}),
    "feedback": (nflae_bridge.feedback, {"channels": CHANNELS, "bits": 64}),
}
WRONG: dict[str, list[Any]] = {
    "str": [3, True, 1.5, b"rzf", [], {}, np.array(2)],
    "str | Path": [3, True, [], np.array([1.0])],
    "bool": [1, "yes", 0.0, np.array([True])],
    "int": [1.5, 64.0, True, "4", np.array([1, 2]), 1j, 10**400, torch.tensor([1.5])],
    "float": ["auto", True, 1j, [1.0], {}, np.array([]), np.array([1.0, 2.0]), 10**400, object()],
    "float | npt.ArrayLike": ["auto", True, {}, np.array([None]), [[1, 2], [3]], 10**400, object()],
    "npt.ArrayLike | str": [{}, object(), np.array([None]), [[1, 2], [3]]],
    "npt.ArrayLike": ["H", {}, object(), np.array([None]), [[1, 2], [3]], np.ma.masked_less([1.0, 2.0], 1.5)],
}
CASES = [
    (function, parameter.name, wrong)
    for function, (call, _) in FUNCTIONS.items()
    for parameter in inspect.signature(call).parameters.values()
    if parameter.kind is not parameter.VAR_KEYWORD
    for wrong in WRONG[parameter.annotation.removesuffix(" | None")]
]


@pytest.mark.parametrize(
    ("function", "name", "wrong"), CASES, ids=[f"{call}-{name}-{index}" for index, (call, name, _) in enumerate(CASES)]
)
def test_the_argument_is_named(function: str, name: str, wrong: Any) -> None:
    call, others = FUNCTIONS[function]
    with pytest.raises(NflaeError, match=rf"^{name} must be .*, got {type(wrong).__name__} ") as raised:
        call(**(others | {name: wrong}))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_none_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(NflaeError, match="scheme must be a text, got NoneType"):
        nflae_bridge.precode(CHANNELS, scheme=None)  # type: ignore[arg-type]


@checked()
def given(
    channels: npt.ArrayLike,  # type: ignore[name-defined]  # noqa: F821
    count: int = 1,
    *,
    share: float | None = None,
    name: str | Path = "x",
    whole: bool = False,
) -> list[Any]:
    """Return the arguments."""
    return [channels, count, share, name, whole]


def test_other_forms_of_the_right_type_are_converted() -> None:
    found = given(torch.ones(2), np.int64(3), share=np.float32(0.5), name=Path("runs"), whole=np.True_)  # type: ignore[arg-type]
    assert isinstance(found[0], np.ndarray)
    assert [type(value) for value in found[1:]] == [int, float, str, bool]
    assert found[1:] == [3, 0.5, "runs", True]
    assert given([1j], torch.tensor(2), share=3)[1:3] == [2, 3.0]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional arguments"):
        given(1, 2, 3)  # type: ignore[call-arg,misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'shares'"):
        given(1, shares=3)  # type: ignore[call-arg]


def test_a_gradient_is_explained() -> None:
    with pytest.raises(NflaeError, match=r"channels must be an array of numbers, got Tensor .*detach\(\)"):
        nflae_bridge.precode(torch.from_numpy(CHANNELS).requires_grad_())  # type: ignore[arg-type]


def test_a_reference_of_zero_is_refused() -> None:
    with pytest.raises(NflaeError, match="reference norm of feedback must be positive and finite, got 0"):
        nflae_bridge.feedback(CHANNELS, 64, reference=0)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_estimates_do_not_depend_on_the_unit(scale: float) -> None:
    waves = np.exp(2j * np.pi * 0.31 * np.arange(16)) + 0.3 * random_channels(3, 2, 16)
    found, expected = (
        nflae_bridge.estimate((factor * waves).astype(np.complex64), csi_snr_db=10.0) for factor in (scale, 1.0)
    )
    np.testing.assert_allclose(found.channels.astype(complex) / scale, expected.channels, atol=1e-5)
    np.testing.assert_allclose(found.csi_error_db, expected.csi_error_db, atol=1e-3)


def test_a_kept_result_is_computed_once_for_equal_arguments_of_equal_types() -> None:
    calls: list[Any] = []

    @kept
    def number(value: Any) -> Any:
        calls.append(value)
        return convert_argument("value", "float", value)

    assert [number(1.0), number(1.0), number(1), number(np.array(2.0)), number(np.array(2.0))] == [1, 1, 1, 2, 2]
    assert len(calls) == 4
    changing = torch.tensor(3.0)  # its hash is that of the object
    assert [number(changing), number(changing.fill_(4.0))] == [3, 4]
    with pytest.raises(NflaeError, match="value must be a number, got bool True"):
        number(True)
