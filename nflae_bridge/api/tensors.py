"""Return tensors of PyTorch, on their device, from functions of NumPy arrays whose channels are given as a tensor."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ParamSpec

from matlab_io.result import Result

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")


def tensors_as_given(function: Callable[P, Result]) -> Callable[P, Result]:
    """Let a function take its first argument, the channels, as a tensor and return its result in tensors.

    The result has the device of the channels, which is also that of the computation unless the argument ``device``
    names another. Other arguments may be tensors as well. Tensors of a GPU are checked on the host.

    Parameters
    ----------
    function : callable
        Function of NumPy arrays with an argument ``device``.

    Returns
    -------
    callable
        The function; without a tensor of channels it does the same, and PyTorch is not imported.
    """

    @functools.wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> Result:
        channels = positional[0] if positional else named.get("channels")
        if not _is_tensor(channels):
            return function(*positional, **named)
        given: Any = channels
        arrays: list[Any] = [_on_host(each) for each in positional]
        options: dict[str, Any] = {name: _on_host(value) for name, value in named.items()}
        if options.get("device", "auto") == "auto":
            options["device"] = str(given.device)
        return _in_tensors(function(*arrays, **options), given.device)

    return call


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # without it there are no tensors
    return torch is not None and isinstance(value, torch.Tensor)


def _on_host(value: Any) -> Any:
    """Return a tensor as a NumPy array, of the same memory where it is on the CPU; other values as they are."""
    if not _is_tensor(value) or value.requires_grad:  # the function refuses gradients
        return value
    try:
        return value.cpu().resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError):  # NumPy has no such type: the function refuses it, by the argument's name
        return value


def _in_tensors(result: Result, device: torch.device) -> Result:
    import torch

    arrays = {each.name: getattr(result, each.name) for each in fields(result)}
    moved: dict[str, Any] = {
        name: None if array is None else torch.from_numpy(array).to(device) for name, array in arrays.items()
    }
    return replace(result, **moved)
