"""Recognise complex arrays that are no channels by their names: precoders, and path coefficients of other tools."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["NEVER_GUESSED", "NotChannels", "not_channels"]


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
    """

    names: str
    reason: str
    source: str = ""
    beside: str = ""

    def remedy(self, path: str | os.PathLike[str]) -> str:
        """Return the reason, and the command line that makes channels of the arrays.

        Parameters
        ----------
        path : str or os.PathLike
            File that holds them.

        Returns
        -------
        str
        """
        if not self.source:
            return self.reason
        file = shlex.quote(f"{self.source}:{os.fspath(path)}")
        return f"{self.reason}; type: nflae simulate --source {file} -o channels.mat"


# A field's own name, not the end of a longer one.
_OWN = r"(?<![A-Za-z0-9_])"
_INDEX = r"([({]\d+[)}])?"

NEVER_GUESSED = (
    NotChannels(_OWN + "precoder", "it is a precoder, as nflae writes them"),
    NotChannels(
        rf"{_OWN}(channel_\d+_)?coeffs?{_INDEX}",
        "its name is that of QuaDRiGa's path coefficients, which become a channel with their delays",
        "quadriga",
    ),
    NotChannels(
        rf"{_OWN}path_?gains{_INDEX}",
        "its name is that of the path gains of MATLAB's channel models, which become a channel with their delays",
        "matlab5g",
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
        if re.search(rf"(?:{each.names})\Z", name, re.IGNORECASE) and (
            not each.beside or parent + dot + each.beside in beside
        ):
            return each
    return None
