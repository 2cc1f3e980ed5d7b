"""Define the types of the fields that several headers of the wire format have, and check those of the network."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from simulator.problems.problem import NO_NETWORK

MAX_ID = 128

Id = Annotated[str, Meta(max_length=MAX_ID)]
SchemeText = Annotated[str, Meta(max_length=512)]  # with its options; the server keeps what follows from it
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Convention = Literal["hermitian", "direct"]


def check_network_fields(scheme: str, refine: int, effort: str | None, objective: str = "sum-rate") -> None:
    """Check that the fields of the network have an effect.

    Parameters
    ----------
    scheme : str
        Scheme.
    refine : int
        WMMSE steps after the network.
    effort : str or None
        Choice of model and refinement.
    objective : str
        Objective of the problem.

    Raises
    ------
    ValueError
        If one is given beside another scheme, another field that states the same, or an objective without the network.
    """
    if effort is not None and (refine or scheme != "nflae"):
        other = f"refine {refine}" if refine else f"scheme {scheme[:60]!r}"
        raise ValueError(f"effort {effort!r} chooses model and refinement of nflae; leave out {other} or the effort")
    given = f"refine {refine}" if refine else f"effort {effort!r}" if effort is not None else ""
    if given and scheme != "nflae":
        raise ValueError(f"{given} applies to scheme 'nflae' only; leave it out with scheme {scheme[:60]!r}")
    if given and objective == "max-min":
        raise ValueError(f"{given} {NO_NETWORK}")
