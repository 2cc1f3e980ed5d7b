"""Run a function on a GPU as a CUDA graph, launched once where the host would launch many small kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs import recording

Function = Callable[[Tensor], tuple[Tensor, ...]]


class Captured:
    """Hold a function of one tensor, captured once per shape; called as it is where it cannot be captured.

    The results of a call are overwritten by the next call of the same shape.

    Parameters
    ----------
    function
        The function.
    device
        Device of its argument and results.
    """

    def __init__(self, function: Function, device: torch.device) -> None:
        self.function, self.device = function, device
        self.capturable = True
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]] = {}

    def __call__(self, values: Tensor) -> tuple[Tensor, ...]:
        """Call the function with a tensor on the host or on the device."""
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
                stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
                stream.wait_stream(torch.cuda.current_stream(self.device))
                graph, outputs = recording.capture(lambda: self.function(inputs), stream)
                self._graphs[values.shape] = graph, inputs, outputs
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # some kernel waits for the host
            self.capturable = False
            torch.cuda.synchronize(self.device)
