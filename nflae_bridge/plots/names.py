"""Names of schemes and networks as figures and pages print them."""

from __future__ import annotations

NETWORK_NAMES = {"paper": "GPT-2 raw", "transformer": "Transformer", "cnn": "CNN", "tiny": "tiny's network"}
_NAMES = {
    **NETWORK_NAMES,
    "small": "ours, small",
    "tiny": "ours, tiny",
    "capacity": "capacity (dirty paper)",
    "optimiser": "per-drop optimiser",
    "wmmse": "WMMSE",
    "ldma": "LDMA",
    "noma": "NOMA",
    "sdma": "SDMA",
    "rzf": "RZF",
}


def label(scheme: str) -> str:
    """A scheme's name as a reader knows it."""
    return _NAMES.get(scheme, scheme)
