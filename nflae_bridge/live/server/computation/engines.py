"""Load the networks of a server's requests: its own, and those of the efforts that requests name."""

from __future__ import annotations

import threading

import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.network.shipped import load_model, model_folder, model_of_effort


class Engines:
    """Hold the engines of a server; threads may share it.

    Parameters
    ----------
    model : str
        As for `load_scheme`.
    effort : str or None
        Effort in place of the model, as for `nflae_bridge.precode`.
    device : torch.device
        Device of the networks.

    Attributes
    ----------
    own : str
        Name of the model of requests without an effort.

    Raises
    ------
    NflaeError
        If that model cannot be loaded.
    """

    def __init__(self, model: str, effort: str | None, device: torch.device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._chosen: dict[str | None, tuple[str, int]] = {}  # model and refinement steps by effort
        model, refinements = model_of_effort(effort, model, 0)
        self._load(None, model, refinements)
        self.own = self._chosen[None][0]

    def choice(self, effort: str | None, refine: int) -> tuple[str, int]:
        """Return the model and the refinement steps of a request for the network.

        Parameters
        ----------
        effort : str or None
            Effort of the request.
        refine : int
            Its steps.

        Returns
        -------
        model : str
            Name of the model.
        refinements : int
            Number of steps: those of the request, where it has some, else those of the effort.
        """
        if effort not in self._chosen:
            self._load(effort, *model_of_effort(effort, "auto", 0))
        model, refinements = self._chosen[effort]
        return model, refine or refinements

    def of(self, request: PrecodeRequest) -> Engine:
        """Return the engine of a request, refined as `choice` has it; an effort's first request loads its model."""
        model, refinements = self.choice(request.effort, request.refine)
        engine = self._engines[model]
        return engine if refinements == engine.refinements else engine.refined(refinements)

    def _load(self, effort: str | None, model: str, refinements: int) -> None:
        with self._lock:
            name = model_folder(model, self._device.type).resolve().name
            if name not in self._engines:
                self._engines[name] = Engine(load_model(model, self._device), self._device)
            self._chosen[effort] = name, refinements
