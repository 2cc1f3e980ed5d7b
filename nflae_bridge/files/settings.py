"""Hold a valid number of the link budget with its origin: an option, a variable of the file, or the default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError
from simulator.downlink.budget import check_quantity

if TYPE_CHECKING:
    from matlab_io import ChannelFile

__all__ = ["PLAUSIBLE_SNR_DB", "Setting", "from_file", "from_option", "stated_in"]

# Range of the SNR of the median user, dB, beyond which a default noise power is hardly that of the channels.
PLAUSIBLE_SNR_DB = (-20.0, 60.0)


@dataclass(frozen=True)
class Setting:
    """Hold a valid number and its origin.

    Parameters
    ----------
    value : float
        Number in the unit of `LinkBudget`.
    origin : str
        Option, file and variable, or text that begins with ``"default"``.
    """

    value: float
    origin: str

    @property
    def is_default(self) -> bool:
        """Return whether neither an option nor the file stated it."""
        return self.origin.startswith("default")


def from_option(
    name: str, option: str, given: float | None, convert: Callable[[float], float] = float
) -> Setting | None:
    """Return the number that an option states; None if it was not given.

    Parameters
    ----------
    name : str
        Quantity, as in `LinkBudget`.
    option : str
        Option, for the origin and messages.
    given : float or None
        Number given.
    convert : callable
        Conversion to the unit of `LinkBudget`.

    Returns
    -------
    Setting or None

    Raises
    ------
    NflaeError
        If it is out of its range.
    """
    if given is None:
        return None
    try:
        value = convert(given)
        check_quantity(name, value, value, given)
    except ValueError as error:
        raise NflaeError(f"{option} {given:g}: {error}") from None
    return Setting(value, option)


def from_file(name: str, option: str, file: ChannelFile | None) -> Setting | None:
    """Return the one number that a file states for a quantity; None if it states none.

    Parameters
    ----------
    name : str
        Quantity, as in `LinkBudget`.
    option : str
        Option that takes precedence, for messages.
    file : ChannelFile or None
        Open file.

    Returns
    -------
    Setting or None

    Raises
    ------
    NflaeError
        If it cannot be used or is out of its range.
    """
    number = stated_in(file, name)
    if number is None or file is None:
        return None
    variable = file.budget[name].variable
    try:
        check_quantity(name, number, number, f"{number:g}")
    except ValueError as error:
        raise NflaeError(f"{file.path}: {variable}: {error}; correct it in the file or pass {option}") from None
    return Setting(number, f"{file.path.name}: {variable}")


def stated_in(file: ChannelFile | None, name: str) -> float | None:
    """Return the first number that a file states for a quantity; None if it states none.

    Parameters
    ----------
    file : ChannelFile or None
        Open file.
    name : str
        Quantity, as in `matlab_io.reading.scalars.OPTIONS`.

    Returns
    -------
    float or None

    Raises
    ------
    NflaeError
        If the variable cannot be used.
    """
    if file is None or name not in file.budget:
        return None
    found = file.budget[name]
    if found.problem:
        raise NflaeError(f"{file.path}: {found.problem}")
    return found.value
