"""Define a comparison: schemes, models, link budget and problem, all that a worker needs beside the channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from simulator.downlink.budget import LinkBudget
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import Scheme
from simulator.geometry.clear_waves import ClearWaves
from simulator.geometry.panel_labels import panel_near_field_score
from simulator.geometry.panels import UniformPlanarArray
from simulator.problems.dispatch import ProblemScheme
from simulator.problems.problem import PrecodingProblem

NETWORK, OPTIMISER = "nflae", "optimiser"
# Large enough to show the time per drop in batch.
BLOCK_DROPS = 256


@dataclass(frozen=True)
class Comparison:
    """Schemes and rules of a comparison: all that a worker needs beside the channels.

    Parameters
    ----------
    schemes
        Scheme specifications, see `load_scheme`.
    optimiser
        Also run the per-drop optimiser, which is too slow to be timed.
    model, device, refine
        Of ``nflae``, see `load_scheme`; where no labels are given the model labels the users, whichever schemes are
        compared.
    budget
        Link budget.
    problem
        Problem of the whole file, which every scheme solves; by default the plain sum rate.
    panel
        Planar array, whose users are labelled by fitted spherical waves instead of the model; None: a line.
    more_models
        Further models, each of which is a scheme ``nflae (NAME)``; `model` labels the users.
    """

    schemes: tuple[str, ...]
    optimiser: bool
    model: str
    device: str
    refine: int
    budget: LinkBudget
    problem: PrecodingProblem = field(default_factory=PrecodingProblem)
    panel: UniformPlanarArray | None = None
    more_models: tuple[str, ...] = ()

    def engine(self) -> Engine:
        """Return the network; raise NflaeError if its model cannot be loaded or the device is not available."""
        return _engine(self.model, self.device, self.refine)

    def near_field_score(self, channels: Tensor, clear: ClearWaves | None = None) -> Tensor:
        """Compute near-field scores.

        Parameters
        ----------
        channels : Tensor
            complex64 (drops, users, antennas).
        clear : ClearWaves, optional
            Their clear waves, where these are known.

        Returns
        -------
        Tensor
            float64 (drops, users).
        """
        if self.panel is None:
            return self.engine().near_field_score(channels, clear)
        return panel_near_field_score(self.panel, channels)

    def schemes_by_name(self) -> dict[str, Scheme]:
        """Return every scheme by its specification, the optimiser last."""
        if not self.problem.is_plain:
            return {spec: self.solver(spec) for spec in self.schemes}
        chosen: dict[str, Scheme] = {}
        for name in self.schemes:
            chosen |= self._networks() if name == NETWORK else {name: load_scheme(name, device=self.device)}
        return {**chosen, OPTIMISER: optimise} if self.optimiser else chosen

    def _networks(self) -> dict[str, Scheme]:
        """Return the engine of every model; a single one is named ``nflae``."""
        models = (self.model, *self.more_models)
        if len(models) == 1:
            return {NETWORK: self.engine()}
        return {f"{NETWORK} ({Path(model).name})": _engine(model, self.device, self.refine) for model in models}

    def solver(self, spec: str) -> ProblemScheme:
        """Return the scheme of a specification for the problem, with the network inside where it has one inside.

        Parameters
        ----------
        spec
            Specification, see `simulator.problems.dispatch.solve`.
        """
        return ProblemScheme(self.problem, self.engine(), spec)

    @property
    def timed_drops(self) -> int:
        """Largest number of drops of the block that is timed; those that are solved together stay together."""
        together = self.problem.drops_together
        return max(BLOCK_DROPS - BLOCK_DROPS % together, together)


@lru_cache(maxsize=8)
def _engine(model: str, device: str, refine: int) -> Engine:
    """Load the network, once per process."""
    engine = load_scheme("nflae", model, device, refine, many_batches=True)
    assert isinstance(engine, Engine)
    return engine
