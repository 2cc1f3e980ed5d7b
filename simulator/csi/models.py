"""Combine models of the channel state information (CSI) from which the transmitter computes its precoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.prediction.window import Predictor
from simulator.csi.registry import REGISTRY, csi_forms


class Stage(IntEnum):
    """Stages of the path from the channel to the precoder, in the order in which the parts of a model apply."""

    AGEING = 0
    ESTIMATION = 1
    FEEDBACK = 2
    PREDICTION = 3


@dataclass(frozen=True)
class CsiContext:
    """Circumstances under which CSI is acquired.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    slot_correlation
        Correlation of the channels of successive slots, from which ageing is drawn; None if the snapshots are the
        outdated ones themselves.
    network
        Learned predictor, for predictions that use one; None: none.
    """

    generator: torch.Generator
    slot_correlation: float | None = None
    network: Predictor | None = None


class CsiPart(Protocol):
    """One step in which the CSI of the transmitter departs from the channel; a frozen dataclass."""

    @property
    def stage(self) -> Stage:
        """Stage at which the part applies; parts of one stage apply in the order of the text."""
        ...

    @property
    def slots(self) -> int:
        """Slots by which the part outdates the snapshots."""
        ...

    @property
    def history(self) -> int:
        """Successive snapshots from which the part computes the CSI of one; 1 if it has no memory."""
        ...

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part.

        Parameters
        ----------
        snapshots
            complex64 (drops, snapshots, users, antennas), oldest first, one slot apart, on the CPU. A part of the
            stages ageing and estimation receives every snapshot once, as one of its own (snapshots = 1).
        context
            Circumstances.

        Returns
        -------
        Tensor
            complex64, of the shape of ``snapshots``, or (drops, 1, users, antennas) for a prediction.
        """
        ...

    def __str__(self) -> str:
        """Return the text from which the part is parsed."""
        ...


@dataclass(frozen=True)
class CsiModel:
    """Describe the CSI from which the transmitter computes its precoders.

    Parameters
    ----------
    parts
        Parts in the order of the text; none for perfect CSI.
    """

    parts: tuple[CsiPart, ...] = ()

    @property
    def slots(self) -> int:
        """Age of the newest snapshot, slots."""
        return sum(part.slots for part in self.parts)

    @property
    def predicts(self) -> bool:
        """True if a part predicts, for which a network may be used."""
        return any(part.stage is Stage.PREDICTION for part in self.parts)

    @property
    def history(self) -> int:
        """Successive snapshots from which the CSI of one drop is computed."""
        return max((part.history for part in self.parts), default=1)

    def estimate(self, snapshots: Tensor, history: Tensor, context: CsiContext) -> Tensor:
        """Return the transmitter's CSI.

        Every snapshot is aged and estimated once, whichever histories it belongs to; feedback and prediction then apply
        to the histories.

        Parameters
        ----------
        snapshots
            Channels, complex64 (snapshots, users, antennas).
        history
            Snapshots that each CSI is computed from, oldest first, int64 (drops, history).
        context
            Circumstances.

        Returns
        -------
        Tensor
            CSI, complex64 (drops, users, antennas).
        """
        ordered = sorted(self.parts, key=lambda part: part.stage)
        known = snapshots.unsqueeze(1)
        for part in ordered:
            if part.stage <= Stage.ESTIMATION:
                known = part(known, context)
        known = known[:, 0][history]
        for part in ordered:
            if part.stage > Stage.ESTIMATION:
                known = part(known, context)
        return known[:, -1]

    def __str__(self) -> str:
        return ",".join(str(part) for part in self.parts) or "perfect"


def parse_csi(text: str) -> CsiModel:
    """Parse the value of ``--csi``: models with commas between them, such as ``noisy:10,quantised:4``.

    A token that does not begin with the name of a kind is a further argument of the model before it. Whatever the order
    of the text, ageing applies first, then estimation, feedback, and prediction from the history that results.

    Parameters
    ----------
    text
        The text; `csi_forms` lists the kinds.

    Returns
    -------
    CsiModel
        The CSI model.

    Raises
    ------
    NflaeError
        For anything else; the message lists the valid forms.
    """
    if text == "perfect":
        return CsiModel()
    given: list[tuple[str, list[str]]] = []
    for token in text.split(","):
        name, colon, argument = token.strip().partition(":")
        if name in REGISTRY:
            given.append((name, [argument] if colon else []))
        elif given and token.strip():
            given[-1][1].append(token.strip())
        else:
            raise NflaeError(f"no CSI {text!r}: there are {', '.join(csi_forms())}")
    names = [name for name, _ in given]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise NflaeError(f"--csi {text}: {', '.join(repeated)} is given twice; give each model once")
    return CsiModel(tuple(_part(name, arguments) for name, arguments in given))


def _part(name: str, arguments: Sequence[str]) -> CsiPart:
    """Return the part that a kind makes of its arguments; a ValueError of the kind becomes one line."""
    try:
        return REGISTRY.load(name)(arguments)
    except ValueError as error:
        written = ":".join([name, ",".join(arguments)]) if arguments else name
        raise NflaeError(f"no CSI {written!r}: {error}; there are {', '.join(csi_forms())}") from error


def one_number(arguments: Sequence[str]) -> float:
    """Return the only argument of a kind as a finite number.

    Parameters
    ----------
    arguments
        Arguments in the text.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If there is none, more than one, or no finite number.
    """
    if len(arguments) == 1:
        try:
            number = float(arguments[0])
        except ValueError:
            number = float("nan")
        if abs(number) < float("inf"):
            return number
    raise ValueError("expected one number after the colon")


def whole_number(arguments: Sequence[str], least: int, most: int | None = None) -> int:
    """Return the only argument of a kind as a whole number within bounds.

    Parameters
    ----------
    arguments
        Arguments in the text.
    least, most
        Bounds, included; None: no upper bound.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        If there is none, more than one, or no such number.
    """
    number = one_number(arguments)
    if number != int(number) or number < least or (most is not None and number > most):
        raise ValueError(f"expected a whole number of at least {least}" + (f" and at most {most}" if most else ""))
    return int(number)
