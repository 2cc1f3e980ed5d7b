"""Emulate a GPU in ordinary memory: tensors know on which device they are, and what a GPU would refuse is refused.

Operations that mix tensors of both devices fail, and so does NumPy's view of a tensor on the GPU. Everything is
computed on the CPU. In one thread, ``with EmulatedGpu():``; streams are those of `tests.nflae_bridge.engine.fake_cuda`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
# An index of a tensor on a GPU, and what is written to one, may lie on the CPU.
_MAY_MIX = {"__getitem__", "__setitem__", "copy_", "_has_compatible_shallow_copy_type"}


class EmulatedGpu(TorchFunctionMode):
    """Intercept PyTorch's functions in this thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return _call(func, args, dict(kwargs or {}))


def is_there(tensor: Tensor) -> bool:
    return getattr(tensor, "emulated_gpu", False)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)


def _placed(made: Any, there: bool) -> Any:
    for tensor in tensors(made) if there else ():
        tensor.emulated_gpu = True  # type: ignore[attr-defined]
    return made


def _call(func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    given = [*tensors(args), *tensors(list(options.values()))]
    there, name = any(map(is_there, given)), getattr(func, "__name__", "")
    if func == Tensor.device.__get__:  # type: ignore[attr-defined]
        return GPU if there else CPU
    if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
        return there
    if func == Tensor.data.__set__:  # type: ignore[attr-defined]
        func(*args)
        _placed(args[0], is_there(args[1]))
        return None
    if name in ("numpy", "__array__") and there and not options.get("force"):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    if name in ("to", "cpu"):
        return _moved(args[0], "cpu" if name == "cpu" else None, [*args[1:], *options.values()])
    if options.get("device") is not None:
        on = torch.device(options.pop("device")).type == "cuda"
        made = func(*args, **options, device="cpu")
        return _placed(made.clone() if any(made is tensor for tensor in given) else made, on)
    if there and name not in _MAY_MIX and any(tensor.ndim and not is_there(tensor) for tensor in given):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
    made = func(*args, **options)
    return _placed(made, is_there(args[0]) if name in ("copy_", "__setitem__") else there)


def _moved(tensor: Tensor, target: Any, arguments: list[Any]) -> Tensor:
    for argument in arguments:
        if isinstance(argument, torch.dtype):
            tensor = _placed(tensor.to(argument), is_there(tensor))
        elif isinstance(argument, (str, torch.device)):
            target = argument
    there = is_there(tensor) if target is None else torch.device(target).type == "cuda"
    return tensor if there == is_there(tensor) else _placed(tensor.detach().clone(), there)
