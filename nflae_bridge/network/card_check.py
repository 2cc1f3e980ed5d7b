"""Check the sizes in a model's card against the shapes in its weight file, before a network of these sizes is built."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from matlab_io.errors import NflaeError
from nflae_bridge.tasks.task import Task

Shapes = dict[str, tuple[int, ...]]

_MODULES = ("layers", "blocks")  # counts of modules, each of which has tensors of its own
_LARGEST = {
    "width": 1 << 14,
    "heads": 1 << 10,
    "positions": 1 << 20,
    "antennas": 1 << 16,
    "edge_width": 1 << 12,
    "head_width": 1 << 16,
}
_LARGEST_SIZE = 1 << 14
_LONGEST_LIST = 1 << 10
_WORDS = {str: "text", bool: "true or false"}


def stored_shapes(path: Path) -> Shapes:
    """Read the shapes of the tensors of a safetensors file from its header.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict of str to tuple of int
        Shapes by name.

    Raises
    ------
    NflaeError
        If the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except FileNotFoundError:
        raise NflaeError(f"{path} is missing; copy or train the model again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise NflaeError(f"{path} is damaged ({error}); copy or train the model again") from error


def checked_config(card: dict[str, Any], shapes: Shapes, task: Task) -> Any:
    """Make the configuration of a card, with sizes that the stored tensors bear out.

    Parameters
    ----------
    card
        Content of ``model.json``.
    shapes
        Shapes of the stored tensors.
    task
        Task of the card.

    Returns
    -------
    Any
        Configuration, of the task's type.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a field is missing, of another type or out of its range.
    """
    config = _decode(task.config, card["network"], "network", len(shapes))
    if task.check is not None:
        task.check(config, shapes)
    return config


def _decode(kind: Any, value: Any, name: str, modules: int) -> Any:
    """Convert a value of JSON to a type of a configuration's field; ``modules``: bound of fields that count modules."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_dataclass(kind, value, name, modules)
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in choices:
            return None
        (kind,) = (choice for choice in choices if choice is not type(None))
        return _decode(kind, value, name, modules)
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{name} is {value!r:.40}, not one of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        return _decode_tuple(choices, value, name, modules)
    if kind is int:
        largest = modules if name in _MODULES else _LARGEST.get(name, _LARGEST_SIZE)
        if type(value) is not int or not 0 <= value <= largest:
            raise ValueError(f"{name} is {value!r:.40}, not a whole number up to {largest}")
        return value
    if kind is float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r:.40}, not a finite number")
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{name} is not {_WORDS.get(kind, kind.__name__)}")
    return value


def _decode_dataclass(kind: type[Any], value: Any, name: str, modules: int) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not a JSON object")
    types = get_type_hints(kind)
    unknown = value.keys() - types.keys()
    if unknown:
        raise TypeError(f"{name} has a field {min(unknown)!r:.40}, which this version does not have")
    required = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
    if required - value.keys():
        raise KeyError(min(required - value.keys()))
    return kind(**{key: _decode(types[key], inner, key, modules) for key, inner in value.items()})


def _decode_tuple(choices: tuple[Any, ...], value: Any, name: str, modules: int) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > _LONGEST_LIST:
        raise TypeError(f"{name} is not a list of at most {_LONGEST_LIST} values")
    if choices[-1] is Ellipsis:
        choices = choices[:1] * len(value)
    if len(choices) != len(value):
        raise ValueError(f"{name} has {len(value)} values, not {len(choices)}")
    return tuple(_decode(kind, inner, name, modules) for kind, inner in zip(choices, value, strict=True))


class _NoInitialValues(TorchFunctionMode):
    """Leave out `torch.nn.init`: random values on the meta device import torch._dynamo, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def expected_shapes(config: Any, task: Task) -> Shapes:
    """Return the shapes of a network without allocating it; the backbone must have no source.

    Parameters
    ----------
    config
        The network's configuration.
    task
        Its task.

    Returns
    -------
    dict of str to tuple of int
        Shapes by name.
    """
    with torch.device("meta"), _NoInitialValues():
        skeleton = task.build(config, True)
    return {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
