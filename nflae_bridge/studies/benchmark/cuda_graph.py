"""A function on a GPU as a CUDA graph: launched once, where many small kernels would each be launched by the host."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, ...]]

_WARM_UP = 3


class Captured:
    """``function`` of one tensor, captured once for every shape; as it was where it can't be captured.

    The results of a call are overwritten by the next call of the same shape.
    """

    def __init__(self, function: Function, device: torch.device) -> None:
        self.function, self.device = function, device
        self.capturable = True
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]] = {}

    def __call__(self, values: Tensor) -> tuple[Tensor, ...]:
        """values: on the host or on the device."""
        if values.shape not in self._graphs and self.capturable:
            self._capture(values)
        if not self.capturable:
            return self.function(values.to(self.device, non_blocking=True))
        graph, inputs, outputs = self._graphs[values.shape]
        inputs.copy_(values, non_blocking=True)
        graph.replay()
        return outputs

    def _capture(self, values: Tensor) -> None:
        try:
            with torch.cuda.device(self.device):
                inputs = values.to(self.device, copy=True)
                # Libraries set themselves up in their first calls, which no graph may hold.
                side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(_WARM_UP):
                        self.function(inputs)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    outputs = self.function(inputs)
                self._graphs[values.shape] = graph, inputs, outputs
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # some kernel waits for the host
            self.capturable = False
            torch.cuda.synchronize(self.device)
