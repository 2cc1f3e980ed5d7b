"""Describe a precoding problem beyond one total power, and check the description.

The command line, files, the Python interface and the wire format state the same quantities under the same names.
Nothing here imports PyTorch, so that clients can use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

from matlab_io.errors import NflaeError

if TYPE_CHECKING:  # the help pages read the choices without numpy
    import numpy as np
    import numpy.typing as npt

__all__ = ["CONNECTIONS", "NO_NETWORK", "OBJECTIVES", "POWER_SCOPES", "PrecodingProblem", "ProblemError"]

Objective = Literal["sum-rate", "max-min", "proportional-fair"]
Connection = Literal["full", "sub"]
PowerScope = Literal["each", "total"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
CONNECTIONS: tuple[Connection, ...] = get_args(Connection)
POWER_SCOPES: tuple[PowerScope, ...] = get_args(PowerScope)
NO_NETWORK = "has no effect on the objective max-min, which is solved exactly, without the network; leave it out"
"""Reason, after its name, for which an option of the network is refused."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "objective": OBJECTIVES,
    "connection": CONNECTIONS,
    "power_scope": POWER_SCOPES,
}
_LARGEST_WEIGHT, _WEIGHT_RATIO = 1e12, 1e9  # the largest weight, and the largest over the smallest of a drop
_MAX_PHASE_BITS = 16
_COUNTS = ("antenna_groups", "rf_chains", "phase_bits", "streams", "subcarriers", "window")


class ProblemError(NflaeError, ValueError):
    """Report a precoding problem that is contradictory, does not fit the channels, or cannot be solved."""


@dataclass(frozen=True, eq=False)
class PrecodingProblem:
    """Hold all that a precoding problem has beyond the link budget; by default nothing: the plain sum rate.

    Parameters
    ----------
    objective : {"sum-rate", "max-min", "proportional-fair"}
        Weighted sum rate; smallest rate; or sum over users of the logarithm of the mean rate over `window` drops.
    weights : numpy.ndarray, optional
        Weights a_k of the users' rates, float64 (users,) or (drops, users), not negative, of any scale.
    window : int
        Consecutive drops over which rates are averaged for ``"proportional-fair"``.
    antenna_power : numpy.ndarray, optional
        Largest power of each antenna, float64 (antennas,), W; one element holds for every antenna.
    antenna_groups : int, optional
        Antennas per group, consecutive: a group has the sum of its antennas' limits in common.
    total_power : bool
        The total power of the link budget holds beside the antennas' limits.
    rf_chains : int, optional
        RF chains R of a hybrid array; None for a fully digital one.
    phase_bits : int, optional
        Bits of the phase shifters; None for continuous phases.
    connection : {"full", "sub"}
        Every RF chain feeds every antenna, or a block of antennas of its own.
    joint_receivers : bool
        Users have several receive antennas, with combiners that are chosen together with the precoder.
    streams : int, optional
        Streams per user; as many as receive antennas by default.
    power_scope : {"each", "total"}
        The power is that of every drop, or that of all `subcarriers` consecutive drops together.
    subcarriers : int
        Subcarriers of one snapshot, for ``power_scope="total"``.

    Raises
    ------
    ProblemError
        If a quantity is out of its range or makes no sense without another.
    """

    objective: Objective = "sum-rate"
    weights: npt.NDArray[np.float64] | None = None
    window: int = 1
    antenna_power: npt.NDArray[np.float64] | None = None
    antenna_groups: int | None = None
    total_power: bool = True
    rf_chains: int | None = None
    phase_bits: int | None = None
    connection: Connection = "full"
    joint_receivers: bool = False
    streams: int | None = None
    power_scope: PowerScope = "each"
    subcarriers: int = 1

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ProblemError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ProblemError(f"{name} must be a whole number of at least 1, got {value!r}")
            object.__setattr__(self, name, int(value))
        if self.phase_bits is not None and self.phase_bits > _MAX_PHASE_BITS:
            raise ProblemError(f"phase_bits must be at most {_MAX_PHASE_BITS}, got {self.phase_bits}")
        for name in ("weights", "antenna_power"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked_array(name, getattr(self, name)))
        self._check_companions()

    def _check_companions(self) -> None:
        """Refuse quantities that change nothing without another."""
        needed = (
            ("phase_bits", self.phase_bits is not None, "rf_chains", self.rf_chains is not None),
            ("connection='sub'", self.connection == "sub", "rf_chains", self.rf_chains is not None),
            ("streams", self.streams is not None, "receive_antennas='joint'", self.joint_receivers),
            ("antenna_groups", self.antenna_groups is not None, "power_per_antenna", self.antenna_power is not None),
            ("window", self.window > 1, "objective='proportional-fair'", self.objective == "proportional-fair"),
            ("a power that is not limited in total", not self.total_power, "power_per_antenna", self._limits_antennas),
        )
        for name, given, other, present in needed:
            if given and not present:
                raise ProblemError(f"{name} applies together with {other} only; give that too, or leave {name} out")
        if self.weights is not None and self.objective != "sum-rate":
            raise ProblemError(
                f"weights apply to objective='sum-rate' only; leave them out with objective={self.objective!r}"
            )

    @property
    def _limits_antennas(self) -> bool:
        return self.antenna_power is not None

    @cached_property
    def parts(self) -> frozenset[str]:
        """Names of all that the problem has beyond the plain one, see `combinations`."""
        present = {
            "weights": self.weights is not None,
            "max-min": self.objective == "max-min",
            "proportional-fair": self.objective == "proportional-fair",
            "antenna limits": self._limits_antennas,
            "hybrid array": self.rf_chains is not None,
            "receive antennas": self.joint_receivers,
            "subcarrier power": self.power_scope == "total" and self.subcarriers > 1,
        }
        return frozenset(name for name, given in present.items() if given)

    @property
    def is_plain(self) -> bool:
        """Return whether the problem is the sum rate under the link budget alone."""
        return not self.parts

    @property
    def starts_from_network(self) -> bool:
        """Return whether the algorithm around the network uses it; that of the smallest rate is exact without."""
        return self.objective != "max-min"

    @property
    def drops_together(self) -> int:
        """Number of consecutive drops that can only be solved together."""
        return self.subcarriers if "subcarrier power" in self.parts else self.window

    def check(self, drops: int, users: int, antennas: int, receive_antennas: int = 1) -> None:
        """Check that the problem fits channels of given sizes.

        Parameters
        ----------
        drops, users, antennas, receive_antennas : int
            Sizes of the channels; the last are those of each user.

        Raises
        ------
        ProblemError
            If an array has another length, or counts do not fit each other.
        """
        for problem in self._misfits(drops, users, antennas, receive_antennas):
            raise ProblemError(problem)

    def _misfits(self, drops: int, users: int, antennas: int, receive_antennas: int) -> Iterator[str]:
        if self.weights is not None and self.weights.shape not in ((users,), (drops, users)):
            yield (
                f"weights must hold one value for each of the {users} users, or one per drop and user, ({drops},"
                f" {users}); got {_size(self.weights)}"
            )
        if self.antenna_power is not None and self.antenna_power.shape not in ((antennas,), (1,)):
            yield (
                f"power_per_antenna must hold one value, or one for each of the {antennas} antennas; got"
                f" {_size(self.antenna_power)}"
            )
        if self.antenna_groups is not None and antennas % self.antenna_groups:
            yield f"antenna_groups must divide the {antennas} antennas, got groups of {self.antenna_groups}"
        streams = (self.streams or min(receive_antennas, antennas)) if self.joint_receivers else 1
        if self.joint_receivers and streams > receive_antennas:
            yield f"streams must be at most the {receive_antennas} receive antennas of a user, got {streams}"
        if self.rf_chains is not None and users * streams > antennas:
            yield (
                f"rf_chains: a hybrid array of {antennas} antennas serves at most {antennas} streams, got"
                f" {users * streams}; serve fewer users, or leave rf_chains out"
            )
        elif self.rf_chains is not None and not users * streams <= self.rf_chains <= antennas:
            yield (
                f"rf_chains must be from {users * streams}, the number of streams, to {antennas}, that of antennas;"
                f" got {self.rf_chains}"
            )
        if self.rf_chains is not None and self.connection == "sub" and antennas % self.rf_chains:
            yield f"rf_chains must divide the {antennas} antennas with connection='sub', got {self.rf_chains}"
        if drops % self.drops_together:
            name = "subcarriers" if "subcarrier power" in self.parts else "window"
            yield f"{name} must divide the {drops} drops, got {self.drops_together}"

    def of_drops(self, drops: slice | npt.NDArray[np.bool_]) -> PrecodingProblem:
        """Return the problem of some of the drops.

        Parameters
        ----------
        drops : slice or numpy.ndarray
            Slice, or mask of all drops.

        Returns
        -------
        PrecodingProblem
            Weights that hold for every drop are kept.
        """
        if self.weights is None or self.weights.ndim == 1:
            return self
        return replace(self, weights=self.weights[drops])

    def describe(self) -> dict[str, Any]:
        """Return the fields that differ from the plain problem, arrays as they are."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in found.items() if hasattr(value, "dtype") or value != plain[name]}


def _checked_array(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return finite float64 values in the range of their name."""
    import numpy as np

    label = "power_per_antenna" if name == "antenna_power" else name
    try:
        if np.iscomplexobj(values):
            raise TypeError
        array = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise ProblemError(f"{label} must be real numbers, got {values!r:.60}") from None
    axes = 2 if name == "weights" else 1
    if array.ndim > axes or not array.size:
        most = "one or two axes" if axes == 2 else "one axis"
        raise ProblemError(f"{label} must have {most} and at least one value, got shape {array.shape}")
    rule = "finite and not negative" if name == "weights" else "positive and finite, W"
    wrong = ~np.isfinite(array) | (array < 0 if name == "weights" else array <= 0)
    if wrong.any():
        index = tuple(int(position) + 1 for position in np.argwhere(wrong)[0])
        place = str(index[0]) if len(index) == 1 else f"drop {index[0]}, user {index[1]}"
        raise ProblemError(f"{label} must be {rule}; value {place} is {array[wrong][0]:g}")
    if name == "weights" and not (array.sum(-1) > 0).all():
        drop = "" if array.ndim == 1 else f" of drop {int(np.argmin(array.sum(-1) > 0)) + 1}"
        raise ProblemError(f"weights must not all be zero; those{drop} are")
    if name == "weights":
        _check_spread(array)
    return array


def _check_spread(weights: npt.NDArray[np.float64]) -> None:
    """Refuse weights of a drop that are too large, too small or too far apart for the algorithms' numbers."""
    import numpy as np

    largest, smallest = weights.max(-1), np.where(weights > 0, weights, np.inf).min(-1)
    wrong = (largest > _LARGEST_WEIGHT) | (smallest < 1 / _LARGEST_WEIGHT) | (largest > _WEIGHT_RATIO * smallest)
    if wrong.any():
        drop = int(np.argmax(wrong))
        span = f"{np.atleast_1d(smallest)[drop]:g} to {np.atleast_1d(largest)[drop]:g}"
        of_drop = "" if weights.ndim == 1 else f" of drop {drop + 1}"
        raise ProblemError(
            f"weights must be 0, or from {1 / _LARGEST_WEIGHT:g} to {_LARGEST_WEIGHT:g} and within a factor of"
            f" {_WEIGHT_RATIO:g}; those{of_drop} are {span}: scale them, or set the small ones to 0"
        )


def _size(array: npt.NDArray[np.float64]) -> str:
    return f"{array.size} values" if array.ndim == 1 else f"shape {array.shape}"
