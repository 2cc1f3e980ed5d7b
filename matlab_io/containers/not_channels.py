"""Recognise complex arrays that are no channels by their names: precoders, and path coefficients of other tools."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["NEVER_GUESSED", "SCENARIO", "NotChannels", "not_channels"]


@dataclass(frozen=True)
class NotChannels:
    """Describe arrays that are not taken as channels unless named.

    Parameters
    ----------
    names : str
        Regular expression for the end of their MATLAB expression, case-insensitive.
    reason : str
        Content of the arrays.
    source : str
        Channel source that reads them; "" for none.
    beside : str
        Name of an array beside them without which they are not recognised; "" for none.
    receive_axis : int
        Axis that counts receive antennas; -1 for none.
    is_scenario : bool
        The source reads the folder of the file.
    """

    names: str
    reason: str
    source: str = ""
    beside: str = ""
    receive_axis: int = -1
    is_scenario: bool = False

    def matches(self, name: str) -> bool:
        """Return whether they have such a name.

        Parameters
        ----------
        name : str
            MATLAB expression of an array.

        Returns
        -------
        bool
        """
        return re.search(rf"(?:{self.names})\Z", name, re.IGNORECASE) is not None

    def remedy(self, path: str | os.PathLike[str], shape: Sequence[int] = ()) -> str:
        """Return the reason, and the command line that makes channels of the arrays.

        Parameters
        ----------
        path : str or os.PathLike
            File that holds them.
        shape : sequence of int
            Shape of one of the arrays.

        Returns
        -------
        str
        """
        if not self.source:
            return self.reason
        read = os.path.dirname(os.path.abspath(path)) if self.is_scenario else os.fspath(path)
        line = f"nflae simulate --source {shlex.quote(f'{self.source}:{read}')} -o channels.mat"
        if 0 <= self.receive_axis < len(shape) and shape[self.receive_axis] > 1:
            return f"{self.reason}; type: {line} --receive-antennas strongest (or each, or eigen)"
        return f"{self.reason}; type: {line}"


# A field's own name, not the end of a longer one.
_OWN = r"(?<![A-Za-z0-9_])"
_INDEX = r"([({]\d+[)}])?"

NEVER_GUESSED = (
    NotChannels(_OWN + "precoder", "it is a precoder, as nflae writes them"),
    NotChannels(
        rf"{_OWN}(channel_\d+_)?coeffs?{_INDEX}",
        "its name is that of QuaDRiGa's path coefficients, which become a channel with their delays",
        "quadriga",
        receive_axis=0,
    ),
    NotChannels(
        rf"{_OWN}path_?gains{_INDEX}",
        "its name is that of the path gains of MATLAB's channel models, which become a channel with their delays",
        "matlab5g",
        receive_axis=3,
    ),
    NotChannels(
        rf"deepmimo\w*([({{.].*)?|.*{_INDEX}\.user{_INDEX}\.channel{_INDEX}",
        "it is one of the users of a DeepMIMO dataset",
        "deepmimo",
    ),
    NotChannels(
        rf"{_OWN}a",
        "with tau beside it, its name is that of Sionna's path coefficients, which become a channel with their delays",
        "sionna",
        beside="tau",
    ),
    NotChannels(
        rf"{_OWN}CIR_(MIMO|SISO)_\w+\.(H|HSmallScale){_INDEX}",
        "its name is that of NYUSIM's paths; their sum H_ensemble beside it is a channel: pass --var with its name",
    ),
    NotChannels(
        rf"{_OWN}(\w*_)?(cir|impulse_?response|taps)s?{_INDEX}",
        "its name is that of impulse responses; channels are their Fourier transform over the axis of the delay, e.g."
        " H = fft(cir, [], 3) for the third axis",
    ),
)

# A file of a scenario folder holds no complex array.
SCENARIO = NotChannels(
    rf"{_OWN}(rx_locs|DoD_array|DoA_array|CIR_array)",
    "it is one of the files of a DeepMIMO scenario",
    "deepmimo",
    is_scenario=True,
)


def not_channels(name: str, beside: Collection[str] = ()) -> NotChannels | None:
    """Return the description of an array that is not taken as channels unless named.

    Parameters
    ----------
    name : str
        MATLAB expression of the array, e.g. ``"chan(2).coeff"``.
    beside : collection of str
        MATLAB expressions of the other arrays of the file.

    Returns
    -------
    NotChannels or None
        The description; None for an array that may be the channels.
    """
    parent, dot, _ = name.rpartition(".")
    for each in NEVER_GUESSED:
        if each.matches(name) and (not each.beside or parent + dot + each.beside in beside):
            return each
    return None
