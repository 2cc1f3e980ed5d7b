"""Follow the work of experiments by the notes of their units, and estimate the time left from the times measured.

Every activity has an expected time. An activity that has been measured in this run, in any unit, corrects those of the
same name by its ratio; all others are corrected by the ratio of everything measured so far. So the expected times
matter by their ratios only, and these only until each activity has been seen once.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nflae_bridge.plots.names import NETWORK_NAMES, label
from nflae_bridge.studies.reproduction.experiment import Activity, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.study import LEARNED, Study
from nflae_bridge.studies.reproduction.trained_baselines import finished_mark

# Seconds per drop at K = 10 on two cores, from docs/measurements/results/cost.csv: of a training step, and of a
# solution, with the exponent of K.
_TRAINING = {"paper": 4.6e-2, "transformer": 5.6e-3, "cnn": 5.0e-3, "small": 1.3e-3, "tiny": 5.5e-4}
_SOLUTION = {
    "wmmse": (1.4e-3, 1.0),
    "paper": (1.3e-2, 1.0),
    "transformer": (2.1e-3, 1.0),
    "cnn": (1.5e-3, 1.0),
    "small": (3.9e-4, 1.0),
    "tiny": (1.9e-4, 1.0),
}
_OTHER = (1e-4, 1.0)
_OPTIMISER_CALL, _OPTIMISER_DROP, _OPTIMISER_BLOCK = 5.2, 0.019, 100  # s per call, s per drop in it, drops per call
_UNKNOWN = 1.0  # s, of a unit without expected times
_STEP = re.compile(r"step (\d+) of (\d+)")
_LEAST_MEASURED = 0.02  # of an experiment, before its time left is stated
_PRIOR = 0.05  # weight of the expected time of an activity, as a finished part of it
_FIRST_STEP = 0.1  # of an activity: a first step of a smaller part is not measured, as it contains the start
_OVERDUE = 0.25  # time left of an activity over its expected time, as a part of that it has taken


def expected_training(study: Study, network: str, point: OperatingPoint, gamma2: float | None = None) -> Activity:
    """Return the training of a learned baseline.

    Parameters
    ----------
    study
        The run.
    network, point, gamma2
        As in `Study.recipe`.

    Returns
    -------
    Activity
        Its notes and its time on two cores, once per recipe.
    """
    budget, chosen = study.compute_budget, study.recipe(network, point, gamma2)
    size = point.users / PUBLISHED.users * point.array.antennas / PUBLISHED.array.antennas
    seconds = expected_steps(network, budget.steps[network] * budget.batch) * size
    return Activity(f"training {NETWORK_NAMES[network]}", seconds, finished_mark(study.folder / "runs", chosen))


def expected_steps(network: str, drops: int) -> float:
    """Return the expected time of training steps.

    Parameters
    ----------
    network
        Preset of the network.
    drops
        Number of drops of all steps together.

    Returns
    -------
    float
        Time on two cores, s.
    """
    return _TRAINING[network] * drops


def expected_solution(
    scheme: str, drops: int, point: OperatingPoint = PUBLISHED, block: int = _OPTIMISER_BLOCK
) -> float:
    """Return the expected time of a scheme.

    Parameters
    ----------
    scheme
        Name of the scheme.
    drops
        Number of drops.
    point
        Operating point of the drops.
    block
        Drops per call, on which the time of the per-drop optimiser depends.

    Returns
    -------
    float
        Time on two cores, s.
    """
    if scheme == "optimiser":
        calls = math.ceil(drops / block)
        return _OPTIMISER_CALL * calls + _OPTIMISER_DROP * drops * point.users / PUBLISHED.users
    seconds, exponent = _SOLUTION.get(scheme, _OTHER)
    return seconds * drops * math.pow(point.users / PUBLISHED.users, exponent)


def expected_schemes(
    study: Study, schemes: Sequence[str], point: OperatingPoint = PUBLISHED, drops: int | None = None
) -> list[Activity]:
    """Return the activities of schemes that solve drops of an operating point one after the other.

    Parameters
    ----------
    study
        The run.
    schemes
        Names, in order; learned baselines are trained first where they are not.
    point
        Operating point.
    drops
        Number of drops; by default the test drops of the run.

    Returns
    -------
    list of Activity
        Trainings and solutions, in order.
    """
    activities = []
    for name in schemes:
        if name in LEARNED:
            activities.append(expected_training(study, name, study.trained_at(point)))
        seconds = expected_solution(name, study.compute_budget.test_drops if drops is None else drops, point)
        activities.append(Activity(label(name), seconds))
    return activities


@dataclass(frozen=True)
class WorkLeft:
    """Hold the finished part of the work of an experiment, and the time left.

    Parameters
    ----------
    fraction
        Finished part, from 0 to 1.
    seconds
        Time left, s; None while too little was measured.
    all_seconds
        Time left of all experiments, s; None as for `seconds`, and where there is only one.
    """

    fraction: float
    seconds: float | None = None
    all_seconds: float | None = None


class WorkPlan:
    """Plan the work of experiments, and estimate the time left.

    An activity that happens once, such as a training that several experiments share, belongs to the first unit that
    needs it. One that a unit leaves out is taken out of the plan and counts as no progress.

    Parameters
    ----------
    units
        Units of each experiment, in order.
    finished
        Keys of those that an earlier run has finished, by experiment.
    clock
        Returns the time, s.
    """

    def __init__(
        self,
        units: Mapping[str, Sequence[Unit]],
        finished: Mapping[str, Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._plan: dict[str, dict[str, list[Activity]]] = {}
        self._whole: dict[str, float] = {}
        seen = set[Path]()
        for name, each in units.items():
            self._plan[name] = {unit.key: _activities(unit, seen) for unit in each}
            self._whole[name] = sum(activity.seconds for unit in self._plan[name].values() for activity in unit)
            for key in finished[name]:
                self._plan[name].pop(key, None)
        self._measured: dict[str, tuple[float, float]] = {}  # expected and measured, s, by note
        self._experiment, self._waiting = "", list[Activity]()
        self._current: Activity | None = None
        self._part, self._since = 0.0, 0.0
        self._measured_from = 0.0, 0.0  # part and time from which the steps of the present activity are measured

    def begin(self, experiment: str, key: str) -> None:
        """Begin a unit.

        Parameters
        ----------
        experiment, key
            The experiment and the unit.
        """
        self._experiment = experiment
        self._waiting = self._plan[experiment].pop(key)
        self._start_activity(None)
        self.note("")

    def note(self, text: str) -> None:
        """Take a note of the unit: the beginning of its next activity, or a step of the present one."""
        known = [*self._waiting, *([] if self._current is None else [self._current])]
        begun = [each for each in known if text.startswith(each.note)]
        if not begun:
            return
        activity = max(begun, key=lambda each: len(each.note))
        if activity is not self._current:
            self._end_activity()
            del self._waiting[: self._waiting.index(activity) + 1]
            self._start_activity(activity)
        step = _STEP.search(text)
        if step:
            part = int(step[1]) / int(step[2])
            if not self._part and part < _FIRST_STEP:
                self._measured_from = part, self._clock()
            self._part = max(self._part, part)

    def finish(self) -> None:
        """Finish the unit that was begun."""
        self._end_activity()
        self._waiting = []

    def left(self, experiment: str) -> WorkLeft:
        """Return the work left of an experiment, and of all.

        Parameters
        ----------
        experiment
            Name of the experiment at work.

        Returns
        -------
        WorkLeft
            Without times while less than a fiftieth of the experiment was measured.
        """
        expected, present = self._unit_left()
        waiting = {name: [each for unit in plan.values() for each in unit] for name, plan in self._plan.items()}
        expected += sum(each.seconds for each in waiting[experiment])
        fraction = 1 - expected / self._whole[experiment] if self._whole[experiment] else 1.0
        known = sum(pair[0] for pair in self._measured.values())
        known += 0.0 if self._current is None else self._steps()[0] * self._current.seconds
        if known < _LEAST_MEASURED * self._whole[experiment]:
            return WorkLeft(fraction)
        times = {name: sum(map(self._time, each)) for name, each in waiting.items()}
        all_left = present + sum(times.values()) if len(times) > 1 else None
        return WorkLeft(fraction, present + times[experiment], all_left)

    def _unit_left(self) -> tuple[float, float]:
        """Return the time left of the present unit, expected and estimated, s."""
        expected = sum(each.seconds for each in self._waiting)
        seconds = sum(map(self._time, self._waiting))
        if self._current is None:
            return expected, seconds
        whole, taken = self._time(self._current), self._clock() - self._since
        if self._part:
            part, during = self._steps()
            rest = (1 - self._part) * (during + _PRIOR * whole) / (part + _PRIOR)
        else:
            rest = max(whole - taken, _OVERDUE * taken)
        return expected + (1 - self._part) * self._current.seconds, seconds + rest

    def _time(self, activity: Activity) -> float:
        """Return the estimated time of an activity, s."""
        expected, measured = self._measured.get(activity.note, (0.0, 0.0))
        if not expected:
            pairs = list(self._measured.values())
            part, during = self._steps()
            if self._current is not None and part:
                pairs.append((part * self._current.seconds, during))
            expected, measured = (sum(each) for each in zip(*pairs, strict=True)) if pairs else (1.0, 1.0)
        return activity.seconds * measured / expected if expected else activity.seconds

    def _end_activity(self) -> None:
        now = self._clock()
        if self._current is not None:
            expected, measured = self._measured.get(self._current.note, (0.0, 0.0))
            self._measured[self._current.note] = expected + self._current.seconds, measured + now - self._since
        self._start_activity(None)

    def _start_activity(self, activity: Activity | None) -> None:
        self._current, self._part, self._since = activity, 0.0, self._clock()
        self._measured_from = 0.0, self._since

    def _steps(self) -> tuple[float, float]:
        """Return the part of the present activity that its measured steps are, and their time, s."""
        part, since = self._measured_from
        return max(0.0, self._part - part), self._clock() - since


def _activities(unit: Unit, seen: set[Path]) -> list[Activity]:
    """Return the activities of a unit without those that happen once and are done or belong to a unit before."""
    activities = []
    for activity in unit.expected or (Activity("", _UNKNOWN),):
        if activity.once is None or not (activity.once in seen or activity.once.exists()):
            activities.append(activity)
        if activity.once is not None:
            seen.add(activity.once)
    return activities
