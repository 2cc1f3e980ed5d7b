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
    "zf": "ZF",
    "mrt": "MRT",
}


def label(scheme: str) -> str:
    """Return a scheme's name as figures and pages print it.

    Parameters
    ----------
    scheme
        The scheme's name or specification.

    Returns
    -------
    str
        The printed name; ``scheme`` itself for one without.
    """
    return _NAMES.get(scheme, scheme)
