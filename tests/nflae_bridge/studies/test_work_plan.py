"""The time left of experiments, from the times that their activities took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nflae_bridge.cli import terminal
from nflae_bridge.studies.reproduction import EXPERIMENTS, load_experiment
from nflae_bridge.studies.reproduction.compute_budget import COMPUTE_BUDGETS
from nflae_bridge.studies.reproduction.experiment import Activity, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.runner import plan_work, run
from nflae_bridge.studies.reproduction.study import LEARNED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.studies.reproduction.work_plan import (
    WorkLeft,
    WorkPlan,
    expected_schemes,
    expected_solution,
    expected_training,
)

QUICK, FULL = COMPUTE_BUDGETS["quick"], COMPUTE_BUDGETS["full"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def study_in(folder: Path) -> Study:
    return Study(folder, QUICK, "gpt2-random", 7, torch.device("cpu"))


def unit(key: str, once: Path | None = None, **expected: float) -> Unit:
    activities = [Activity(note, seconds, once if note == "training" else None) for note, seconds in expected.items()]
    return Unit(key, lambda note: [], activities)


def planned(*units: Unit, finished: tuple[str, ...] = ()) -> tuple[WorkPlan, Clock]:
    clock = Clock()
    return WorkPlan({"x": units}, {"x": finished}, clock), clock


def test_measured_activities_correct_those_of_their_name_and_all_others_together() -> None:
    plan, clock = planned(unit("a", solving=10, judging=10), unit("b", solving=20, judging=10, drawing=10))
    plan.begin("x", "a")
    assert plan.left("x") == WorkLeft(0.0)  # nothing was measured yet
    plan.note("solving")
    clock.now = 30.0  # three times as long as expected
    plan.note("judging")
    assert plan.left("x").seconds == pytest.approx(3 * (10 + 20 + 10 + 10))
    clock.now = 35.0  # half of what was expected
    plan.finish()
    plan.begin("x", "b")
    assert plan.left("x").seconds == pytest.approx(3 * 20 + 0.5 * 10 + 35 / 20 * 10)
    assert plan.left("x").fraction == pytest.approx(20 / 60)
    assert plan.left("x").all_seconds is None


def test_steps_replace_the_expected_time_of_the_present_activity() -> None:
    plan, clock = planned(unit("a", training=100, judging=100))
    plan.begin("x", "a")
    plan.note("training y")
    clock.now = 20.0
    plan.note("training y: step 1 of 4, loss 1")
    assert 0.8 * 60 < plan.left("x").seconds - 80 < 1.2 * 60  # type: ignore[operator]
    assert plan.left("x").fraction == pytest.approx(25 / 200)
    clock.now = 60.0
    plan.note("training y: step 3 of 4, loss 1")
    assert plan.left("x").seconds == pytest.approx(20 + 80, rel=0.05)


def test_the_start_of_an_activity_is_not_taken_for_its_steps() -> None:
    plan, clock = planned(unit("a", training=100, judging=100))
    plan.begin("x", "a")
    plan.note("training y")
    clock.now = 50.0  # of loading
    plan.note("training y: step 1 of 100, loss 1")
    assert plan.left("x").seconds is None
    for step in range(2, 12):
        clock.now += 3.0
        plan.note(f"training y: step {step} of 100, loss 1")
    assert plan.left("x").seconds == pytest.approx(3 * 89 + 3 * 100)
    clock.now += 89 * 3
    plan.note("judging")
    assert plan.left("x").seconds == pytest.approx(50 + 3 * 99)


def test_points_of_csi_prediction_count_their_horizons_and_users(tmp_path: Path) -> None:
    experiment, study = load_experiment("csi-prediction"), study_in(tmp_path)
    seconds = {each.key: sum(activity.seconds for activity in each.expected) for each in experiment.units(study)}
    few, many = (experiment.units(each)[0].expected for each in (study, replace(study, compute_budget=FULL)))
    assert many[0].seconds == pytest.approx(FULL.test_drops / QUICK.test_drops * few[0].seconds)
    assert seconds["age"] > 1.5 * seconds["flight N=64 30 GHz 20 m/s 0.25 ms, 10 dB"]


def test_an_activity_over_its_time_has_a_part_of_it_left() -> None:
    plan, clock = planned(unit("a", solving=10), unit("b", solving=10))
    plan.begin("x", "a")
    plan.note("solving")
    clock.now = 10.0
    plan.finish()
    plan.begin("x", "b")
    plan.note("solving")
    clock.now = 14.0
    assert plan.left("x").seconds == pytest.approx(6)
    clock.now = 50.0
    assert plan.left("x").seconds == pytest.approx(10)


def test_what_happens_once_counts_once_and_not_where_it_is_done(tmp_path: Path) -> None:
    mark, done = tmp_path / "later", tmp_path / "finished"
    done.touch()
    units = {
        "x": [unit("a", done, training=90, judging=5), unit("b", mark, training=60, judging=5)],
        "y": [unit("c", mark, training=60, judging=30)],
    }
    clock = Clock()
    plan = WorkPlan(units, {"x": ["a"], "y": []}, clock)
    assert plan.left("x").fraction == pytest.approx(5 / 70)
    plan.begin("x", "b")
    plan.note("training z: step 1 of 2")
    clock.now = 60.0
    plan.note("judging")
    assert plan.left("x") == WorkLeft(pytest.approx(65 / 70), pytest.approx(5), pytest.approx(35))
    clock.now = 65.0
    plan.finish()
    assert plan.left("x") == WorkLeft(1.0, 0.0, pytest.approx(30))
    plan.begin("y", "c")
    assert plan.left("y").seconds == pytest.approx(30)


def test_an_activity_that_a_unit_leaves_out_is_no_progress() -> None:
    plan, clock = planned(unit("a", training=90, judging=5), unit("b", judging=5))
    plan.begin("x", "a")
    plan.note("judging")
    clock.now = 5.0
    plan.finish()
    assert plan.left("x").seconds == pytest.approx(5)


def test_the_longest_beginning_names_the_activity() -> None:
    units = Unit("a", lambda note: [], [Activity("one network", 4.0), Activity("one network per task", 4.0)])
    plan, _ = planned(units)
    plan.begin("x", "a")
    plan.note("one network: step 2 of 4")
    assert plan.left("x").fraction == 0.25
    plan.note("one network per task: step 2 of 4")
    assert plan.left("x").fraction == 0.75


def test_units_without_activities_count_alike_and_by_their_steps() -> None:
    plan, clock = planned(*(Unit(key, lambda note: []) for key in "abcd"), finished=("a",))
    assert plan.left("x").fraction == 0.25
    plan.begin("x", "b")
    clock.now = 8.0
    plan.note("anything")
    plan.note("step 50 of 100, loss 0.1")
    assert plan.left("x").fraction == 0.375
    clock.now = 16.0
    plan.finish()
    assert plan.left("x") == WorkLeft(0.5, pytest.approx(32))


def test_expected_times_grow_with_the_work(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    whole = replace(study, compute_budget=FULL)
    more, less = (expected_training(each, "cnn", PUBLISHED) for each in (whole, study))
    assert more.seconds / less.seconds == pytest.approx(40_000 * 100 / (400 * 20))
    assert more.once != less.once
    with_training = expected_schemes(study, ["wmmse", "cnn"])
    assert [each.note for each in with_training] == ["WMMSE", "training CNN", "CNN"]
    few, many = (expected_schemes(study, ["wmmse"], replace(PUBLISHED, users=users))[0] for users in (5, 10))
    assert many.seconds == pytest.approx(2 * few.seconds)
    assert expected_solution("optimiser", 200, block=20) > 3 * expected_solution("optimiser", 200)


@pytest.mark.parametrize("budget", [QUICK, FULL], ids=["quick", "full"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_units_name_their_activities_and_trainings_once(name: str, budget: object, tmp_path: Path) -> None:
    study = replace(study_in(tmp_path), compute_budget=budget)  # type: ignore[arg-type]
    experiment = load_experiment(name)
    units = experiment.units(study)
    for each in units:
        assert all(activity.seconds >= 0 for activity in each.expected)
        assert not each.expected or sum(activity.seconds for activity in each.expected) > 0
        assert all(activity.once for activity in each.expected if activity.note.startswith("training "))
    trained = {activity.note for each in units for activity in each.expected if activity.once is not None}
    for network in set(experiment.trains(study.compute_budget)) & set(LEARNED):
        assert expected_training(study, network, PUBLISHED).note in trained


def played(clock: Clock, unit: Unit, study: Study) -> Callable[[Note], list[Row]]:
    """A machine of a third of the speed, on which the optimiser is slower by half than expected."""

    def compute(note: Note) -> list[Row]:
        for activity in unit.expected:
            if activity.once is not None and activity.once.exists():
                continue
            takes = 3 * activity.seconds * (1.5 if "optimiser" in activity.note else 1)
            note(activity.note)
            steps = 2 if activity.once is None else 40
            for step in range(1, steps + 1):
                clock.now += takes / steps
                note(f"{activity.note}: step {step} of {steps}, loss 1.0")
            if activity.once is not None:
                activity.once.parent.mkdir(parents=True)
                activity.once.touch()
        return [{"value": 1.0}]

    return compute


def test_the_time_left_is_within_a_factor_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a sweep, and of it with two experiments that share its trainings."""
    clock = Clock()
    monkeypatch.setattr("nflae_bridge.cli.terminal.time.monotonic", clock)
    monkeypatch.setattr("nflae_bridge.studies.reproduction.runner._write", lambda *arguments: None)
    study, experiments = study_in(tmp_path), []
    for name in ("se-users", "transfer", "accuracy"):
        real = load_experiment(name)
        units = [replace(each, compute=played(clock, each, study)) for each in real.units(study)]
        experiments.append(replace(real, units=lambda _, units=units: units))  # type: ignore[misc]
    plan = plan_work(experiments, study)
    plan._clock = clock
    seen: list[tuple[str, float, WorkLeft]] = []
    ends: dict[str, float] = {}

    def watched(experiment: Experiment, advance: terminal.Advance) -> Callable[[int, str, WorkLeft], None]:
        def call(done: int, note: str, left: WorkLeft) -> None:
            advance(done, note, left)
            seen.append((experiment.name, clock.now, left))

        return call

    for each in experiments:
        with terminal.progress(each.name, len(each.units(study)), "units") as advance:
            run(each, study, watched(each, advance), plan)
        ends[each.name] = clock.now
    stated = [(name, at, left) for name, at, left in seen if left.seconds is not None and at < ends[name]]
    assert len(stated) > 200
    for name, at, left in stated:
        assert 0.5 < left.seconds / (ends[name] - at) < 2, (name, at)  # type: ignore[operator]
        assert 0.5 < left.all_seconds / (clock.now - at) < 2, (name, at)  # type: ignore[operator]
    lines = capsys.readouterr().err.splitlines()
    assert "training GPT-2 raw: step" in "\n".join(lines)
    assert all(" left, " in line and " for all, " in line for line in lines[2:])
