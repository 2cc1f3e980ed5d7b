"""A fake of the torch.cuda calls that CUDA graphs need, on the CPU: a graph replays the closure it captured.

As on a GPU, work within ``torch.cuda.graph`` only counts when it is replayed: what it writes at capture is overwritten
with NaN. A graph's outputs are the tensors of its capture, into which every replay writes. Streams run at once what is
given to them, so the fake does not show a missing synchronisation.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Operation = Callable[[], object]

needs_interpreter = pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="with a GPU, Triton compiles its kernels for it, and they take no tensors of the CPU",
)


class FakeCuda:
    """The state of the fake: captures under way and what was counted."""

    def __init__(self) -> None:
        self.captures = self.replays = self.synchronisations = 0
        self.refuse = False
        self.made = 0  # streams
        self.captured_on: set[FakeStream] = set()
        self.replayed_on: set[FakeStream] = set()
        self.locked: list[weakref.ref[Any]] = []  # page-locked memory, as long as it is in use
        self.default = FakeStream(self)
        self._of_thread = threading.local()

    @property
    def streams(self) -> list[FakeStream]:
        """Streams entered in this thread, the current one last."""
        if not hasattr(self._of_thread, "streams"):
            self._of_thread.streams = [self.default]
        found: list[FakeStream] = self._of_thread.streams
        return found

    def is_locked(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in page-locked memory that is in use."""
        held = [found for reference in self.locked if (found := reference()) is not None]
        return any(0 <= tensor.data_ptr() - found.ctypes.data < found.nbytes for found in held)

    @property
    def current(self) -> FakeStream:
        return self.streams[-1]


class FakeStream:
    """Runs at once what is given to it; counts synchronisations."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.waits = 0
        cuda.made += 1

    def wait_stream(self, other: FakeStream) -> None:
        assert isinstance(other, FakeStream)
        self.waits += 1

    def wait_event(self, event: FakeEvent) -> None:
        assert event.recorded_on is not None
        self.waits += 1

    def synchronize(self) -> None:
        self.cuda.synchronisations += 1


class FakeEvent:
    """Recorded and waited for."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.recorded_on: FakeStream | None = None

    def record(self) -> None:
        self.recorded_on = self.cuda.current

    def synchronize(self) -> None:
        pass


class FakeGraph:
    """Holds what to do again: set by `fake_capture`."""

    again: Callable[[], None]

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def replay(self) -> None:
        self.cuda.replays += 1
        self.cuda.replayed_on.add(self.cuda.current)
        self.again()


def tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [part for each in value for part in tensors(each)]


def unpinned(cuda: FakeCuda, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of torch that makes tensors, in ordinary memory also where they are to be page-locked."""

    def made(*sizes: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        tensor = make(*sizes, **options)
        if not pin_memory or not tensor.nbytes:
            return tensor
        memory = np.empty(tensor.nbytes, np.uint8)
        cuda.locked.append(weakref.ref(memory))
        return torch.from_numpy(memory).view(tensor.dtype).reshape(tensor.shape)

    return made


def install(patch: pytest.MonkeyPatch) -> FakeCuda:
    """Put the fake in place of torch.cuda, and captured closures in place of captured kernels."""
    import nflae_bridge.engine.cuda_graphs.recording as module

    cuda = FakeCuda()
    module.streams.cache_clear()

    @contextmanager
    def stream(which: FakeStream) -> Iterator[None]:
        cuda.streams.append(which)
        try:
            yield
        finally:
            cuda.streams.pop()

    @contextmanager
    def graph(which: FakeGraph, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        if cuda.refuse:
            raise RuntimeError("operation not permitted when stream is capturing")
        cuda.captures += 1
        cuda.captured_on.add(stream)
        with torch.cuda.stream(stream):
            yield

    original = module.capture

    def capture(compute: Any, stream: Any, finish: Any = lambda _: None) -> Any:
        made, outputs = original(compute, stream, finish)

        def again() -> None:
            with torch.inference_mode(False), torch.no_grad(), torch.cuda.stream(stream):
                for held, new in zip(tensors(outputs), tensors(compute()), strict=True):
                    held.copy_(new)
                finish(outputs)

        made.again = again
        for held in tensors(outputs):  # a capture computes nothing
            held.fill_(float("nan"))
        return made, outputs

    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "Stream", lambda device=None: FakeStream(cuda))
    patch.setattr(torch.cuda, "Event", lambda: FakeEvent(cuda))
    patch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(cuda))
    patch.setattr(torch.cuda, "current_stream", lambda device=None: cuda.current)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    patch.setattr(torch.cuda, "device", lambda device: nullcontext())
    patch.setattr(torch.cuda, "stream", stream)
    patch.setattr(torch.cuda, "graph", graph)
    patch.setattr(torch, "empty", unpinned(cuda, torch.empty))
    patch.setattr(torch, "empty_like", unpinned(cuda, torch.empty_like))
    patch.setattr(Tensor, "is_pinned", lambda self: cuda.is_locked(self))
    patch.setattr(module, "capture", capture)
    return cuda
