"""Define the two conventions of the signal model, by which rows of channels are conjugated or not."""

from __future__ import annotations

__all__ = ["SIGNAL_MODELS", "check_convention"]

# Convention -> signal model in MATLAB's notation; H is antennas x users in the first, users x antennas in the second.
SIGNAL_MODELS = {"hermitian": "y = H' x", "direct": "y = H x"}


def check_convention(convention: str) -> None:
    """Check the name of a convention.

    Parameters
    ----------
    convention : str
        Name to check.

    Raises
    ------
    ValueError
        If it is neither ``"hermitian"`` nor ``"direct"``.
    """
    if convention not in SIGNAL_MODELS:
        raise ValueError(f"convention {convention!r}: expected one of {', '.join(SIGNAL_MODELS)}")
