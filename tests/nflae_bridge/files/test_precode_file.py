"""Reading, computing and writing at the same time: what comes out, in which order, and what goes wrong."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from matlab_io import MatFileError, ResultFile, open_channels, write_channels
from matlab_io.errors import NflaeError
from nflae_bridge.files.precode_file import Summary, precode_file
from nflae_bridge.files.prefetch import prefetch_map
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme, result_arrays
from simulator.schemes import scheme
from tests.channel_files import Run, WriteMat, load, random_channels

USERS, ANTENNAS = 3, 16
BUDGET = LinkBudget(2.0, 0.01)
PRECODE = scheme("rzf")


class FakeFile:
    """Channels in memory with the face of a ChannelFile; remembers which of the blocks it gave still live."""

    def __init__(self, channels: np.ndarray, fails_at: int | None = None) -> None:
        self.path, self.variable, self.layout, self.convention = Path("fake.mat"), "H", "nks", "hermitian"
        self.drop_letters = "s"
        self.drops, self.users, self.antennas = channels.shape
        self.drop_axes = (self.drops,)
        self.channels, self.fails_at = channels, fails_at
        self.starts: list[int] = []
        self.alive: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
        self.most_alive = 0
        self.threads: set[int] = set()

    def read_combined(self, start: int, stop: int) -> tuple[np.ndarray, None]:
        return self.read(start, stop), None

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.fails_at is not None and start <= self.fails_at < stop:
            raise MatFileError("fake.mat: H: damaged or cut short")
        block = self.channels[start:stop].copy()
        self.starts.append(start)
        self.alive[start] = block
        self.most_alive = max(self.most_alive, len(self.alive))
        self.threads.add(threading.get_ident())
        return block


class FakeResults:
    """Keeps what is written, in the order in which it comes."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.written: list[tuple[int, dict[str, np.ndarray]]] = []
        self.fails_at = fails_at

    def write(self, start: int, arrays: dict[str, np.ndarray]) -> None:
        if self.fails_at is not None and start >= self.fails_at:
            raise MatFileError("out.mat: cannot be written: no space left on device")
        self.written.append((start, {name: values.copy() for name, values in arrays.items()}))

    def whole(self, name: str) -> np.ndarray:
        return np.concatenate([arrays[name] for _, arrays in self.written])


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def run(file: Any, results: Any, batch: int, made: Scheme = PRECODE, skip: bool = False, **more: Any) -> Summary:
    advance: Callable[[int, str], None] = more.get("advance", lambda done, note: None)
    how = "skip" if skip else "error"
    return precode_file(file, results, made, BUDGET, torch.device("cpu"), batch, how, advance)


@pytest.mark.parametrize("batch", [1, 4, 10, 37, 50])
def test_blocks_come_in_order_and_equal_one_call_of_the_scheme(batch: int) -> None:
    channels = random_channels(37, USERS, ANTENNAS)
    file, results, told = FakeFile(channels), FakeResults(), []
    summary = run(file, results, batch, advance=lambda done, note: told.append(done))
    starts = list(range(0, 37, batch))
    assert file.starts == starts == [start for start, _ in results.written]
    assert told == [min(start + batch, 37) for start in starts]
    at_once = result_arrays(PRECODE(ChannelBatch(torch.from_numpy(channels)), BUDGET))
    for name, expected in at_once.items():
        found = results.whole(name)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (summary.drops, summary.skipped, summary.users) == (37, 0, 37 * USERS)
    assert summary.mean_sum_rate == pytest.approx(at_once["sum_rate"].mean())
    assert summary.near_field_users == at_once["near_field"].sum()


def test_a_block_is_what_the_scheme_makes_of_it_alone_to_the_last_bit() -> None:
    channels = random_channels(40, USERS, ANTENNAS)
    results = FakeResults()
    run(FakeFile(channels), results, 8)
    for start, arrays in results.written:
        alone = result_arrays(PRECODE(ChannelBatch(torch.from_numpy(channels[start : start + 8])), BUDGET))
        for name, expected in alone.items():
            np.testing.assert_array_equal(arrays[name], expected)


def test_blocks_are_computed_side_by_side_while_the_next_is_read() -> None:
    """Two computations that wait for each other and for the block after theirs would wait for ever in one thread."""
    both, read_on = threading.Barrier(2, timeout=60), threading.Event()

    class Ahead(FakeFile):
        def read(self, start: int, stop: int) -> np.ndarray:
            if start >= 8:
                read_on.set()
            return super().read(start, stop)

    def waiting(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        both.wait()
        assert read_on.wait(60)
        return PRECODE(batch, budget)

    file, results = Ahead(random_channels(16, USERS, ANTENNAS)), FakeResults()
    run(file, results, 4, waiting)
    assert [start for start, _ in results.written] == [0, 4, 8, 12]
    assert len(file.threads) == 1


@pytest.mark.parametrize("slow", ["reading", "computing", "writing"])
def test_few_blocks_live_at_a_time(slow: str) -> None:
    pause = threading.Event()

    class Slow(FakeFile, FakeResults):
        def read(self, start: int, stop: int) -> np.ndarray:
            pause.wait(0.005 * (slow == "reading"))
            return FakeFile.read(self, start, stop)

        def write(self, start: int, arrays: dict[str, np.ndarray]) -> None:
            pause.wait(0.005 * (slow == "writing"))

    def made(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        pause.wait(0.005 * (slow == "computing"))
        return PRECODE(batch, budget)

    file = Slow(random_channels(120, USERS, ANTENNAS))
    run(file, file, 2, made)
    # two read ahead, one waiting beside two being computed, one being handed on
    assert file.most_alive <= 6


def failing(at: int) -> Scheme:
    """Fails on the block whose first drop is marked by a gain of ``at``."""

    def made(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        if float(batch.channels[0].abs().max()) >= at:
            raise NflaeError(f"failed at {at}")
        return PRECODE(batch, budget)

    return made


@pytest.mark.parametrize("stage", ["reading", "computing", "writing"])
def test_an_error_comes_after_the_blocks_before_it_and_stops_the_work(stage: str) -> None:
    channels = random_channels(400, USERS, ANTENNAS)
    channels[20] *= 1000
    file = FakeFile(channels, fails_at=20 if stage == "reading" else None)
    results = FakeResults(fails_at=20 if stage == "writing" else None)
    made = failing(100) if stage == "computing" else PRECODE
    expected = {"reading": "damaged", "computing": "failed at 100", "writing": "no space left"}[stage]
    threads = threading.active_count()
    with pytest.raises((MatFileError, NflaeError), match=expected):
        run(file, results, 4, made)
    assert [start for start, _ in results.written] == [0, 4, 8, 12, 16]
    assert len(file.starts) < 20
    assert threading.active_count() == threads


def test_products_of_numpy_have_the_threads_of_a_block() -> None:
    def threads() -> dict[str, int]:
        return {each["filepath"]: each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    def watched(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        seen.append(set(threads().values()))
        return PRECODE(batch, budget)

    seen: list[set[int]] = []
    with threadpool_limits(2, "blas"):
        before = threads()
        run(FakeFile(random_channels(8, USERS, ANTENNAS)), FakeResults(), 4, watched)
        assert seen == [{1}, {1}]
        assert 2 in before.values()
        assert threads().items() >= before.items()


def test_of_two_errors_the_first_drops_is_told() -> None:
    channels = random_channels(40, USERS, ANTENNAS)
    channels[8] *= 1000  # computing fails here, while the block after it has been read and found bad
    channels[13, 1, 2] = np.nan
    with pytest.raises(NflaeError, match="failed at 100"):
        run(FakeFile(channels), FakeResults(), 4, failing(100))


def test_rates_that_are_no_numbers_are_told_with_their_drop() -> None:
    def spoilt(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        answer = PRECODE(batch, budget)
        bad = (batch.channels.abs().amax((1, 2)) > 100).unsqueeze(-1)
        sinr = torch.where(bad, torch.nan, answer.sinr)
        return replace(answer, compute_sinr=lambda: sinr)

    channels = random_channels(40, USERS, ANTENNAS)
    channels[[10, 30]] *= 1000
    channels[9, 0] = 0
    results = FakeResults()
    with pytest.raises(NflaeError, match=r"^fake.mat: H: drop 11: the rates are not finite numbers"):
        run(FakeFile(channels), results, 4, spoilt, skip=True)
    assert [start for start, _ in results.written] == [0, 4]


def test_a_bad_drop_in_a_late_block(tmp_path: Path) -> None:
    channels = random_channels(60, USERS, ANTENNAS)
    spoilt = channels.copy()
    spoilt[47, 2, 5] = np.inf
    spoilt[51, 1] = 0
    source, clean, output = tmp_path / "in.mat", tmp_path / "clean.mat", tmp_path / "out.mat"
    for path, blocks in ((source, spoilt), (clean, channels)):
        write_channels(path, [blocks], users=USERS, antennas=ANTENNAS, drops=60, version="7.3")

    def precoded(path: Path, target: Path, skip: bool) -> Summary:
        sizes = {"antennas": ANTENNAS, "users": USERS, "drop_axes": (60,), "convention": "hermitian"}
        with open_channels(path) as file, ResultFile(target, version="7", info={"scheme": "rzf"}, **sizes) as results:
            return run(file, results, 4, skip=skip)

    with pytest.raises(NflaeError, match=r"drop 48, user 3, antenna 6 is Inf \(counted from 1\)"):
        precoded(source, output, skip=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.mat", "in.mat"]

    summary = precoded(source, output, skip=True)
    assert (summary.drops, summary.skipped, summary.users) == (60, 2, 58 * USERS)
    precoded(clean, tmp_path / "whole.mat", skip=False)
    result, whole = load(output), load(tmp_path / "whole.mat")
    good = np.delete(np.arange(60), [47, 51])
    for name in ("precoder", "power", "rate", "sum_rate"):
        assert np.isnan(result[name][..., [47, 51]]).all()
        np.testing.assert_allclose(result[name][..., good], whole[name][..., good], rtol=1e-5, atol=1e-6)
    assert summary.mean_sum_rate == pytest.approx(result["sum_rate"][0, good].mean())


def with_bad_and_weak_drops() -> np.ndarray:
    """Nine drops: 1, 4 and 8 cannot be precoded, and in 0 and 5 every channel is too weak for any rate."""
    channels = random_channels(9, USERS, ANTENNAS)
    channels[1, 2, 5], channels[4, 0, 0], channels[8, 1] = np.nan, np.inf, 0
    channels[[0, 5]] *= 1e-6
    return channels


def test_skipped_drops_are_not_counted_among_those_that_miss_the_minimum_rate() -> None:
    results = FakeResults()
    budget = LinkBudget(2.0, 0.01, min_rate=0.1)
    device = torch.device("cpu")
    file: Any = FakeFile(with_bad_and_weak_drops())
    summary = precode_file(file, results, PRECODE, budget, device, 4, "skip", lambda done, note: None)  # type: ignore[arg-type]
    assert (summary.drops, summary.skipped, summary.infeasible) == (9, 3, 2)
    assert summary.users == 6 * USERS
    assert not results.whole("feasible")[[0, 1, 4, 5, 8]].any()
    assert results.whole("feasible")[[2, 3, 6, 7]].all()
    good = [0, 2, 3, 5, 6, 7]
    assert summary.sum_rate == pytest.approx(results.whole("sum_rate")[good].sum())
    assert summary.mean_sum_rate == pytest.approx(results.whole("sum_rate")[good].mean())
    assert summary.near_field_users == results.whole("near_field").sum()
    assert summary.fallback == results.whole("fallback").sum()


def test_a_summary_adds_only_what_was_precoded() -> None:
    summary = Summary()
    good = np.array([True, False, True, False])
    flags = np.array([[True, False], [False, False], [True, True], [False, False]])
    block = {
        "near_field": flags,
        "sum_rate": np.array([1.0, np.nan, 2.0, np.nan]),
        "feasible": np.array([False, False, True, False]),
        "fallback": np.array([True, False, True, False]),
        "near_field_score": np.array([[0.5, 0.4], [np.nan, np.nan], [0.9, 0.5], [np.nan, np.nan]]),
    }
    summary.add(good, block)
    summary.add(good, block)
    assert (summary.drops, summary.skipped, summary.users, summary.near_field_users) == (8, 4, 8, 6)
    assert (summary.sum_rate, summary.infeasible, summary.fallback, summary.mean_sum_rate) == (6.0, 2, 4, 1.5)
    assert summary.undecided == 4
    assert np.isnan(Summary(drops=3, skipped=3).mean_sum_rate)


def test_the_command_reports_skipped_and_infeasible_drops_apart(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    source = write_mat(with_bad_and_weak_drops())
    arguments = ("--scheme", "rzf", "--on-bad-drop", "skip", "--min-rate", 0.1, "--power-dbw", 3)
    done = nflae("precode", source, "-o", tmp_path / "out.mat", *arguments)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "3 bad drops" in shown
    assert "on 2 of 6 drops" in shown
    assert load(tmp_path / "out.mat")["feasible"].sum() == 4


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MatFileError])
def test_what_stops_the_writing_leaves_no_output(tmp_path: Path, kind: type[BaseException]) -> None:
    source, output = tmp_path / "in.mat", tmp_path / "out.mat"
    write_channels(source, [random_channels(60)], users=3, antennas=16, drops=60, version="7.3")

    def stop(done: int, note: str) -> None:
        if done >= 20:
            raise kind

    sizes = {"antennas": 16, "users": 3, "drop_axes": (60,), "convention": "hermitian"}
    threads = threading.active_count()
    with (
        pytest.raises(kind),
        open_channels(source) as file,
        ResultFile(output, version="7.3", info={"scheme": "rzf"}, **sizes) as results,
    ):
        run(file, results, 4, advance=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mat"]
    assert threading.active_count() == threads


def test_in_order_of_nothing_and_of_more_workers_than_items() -> None:
    with prefetch_map(str, [], workers=3, ahead=5) as none:
        assert list(none) == []
    with prefetch_map(str, range(3), workers=8, ahead=8) as few:
        assert list(few) == ["0", "1", "2"]


def test_in_order_begins_no_more_than_it_may() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            begun.append(item)
            yield item

    with prefetch_map(lambda item: item, items(), workers=2, ahead=4) as results:
        for result in results:
            assert len(begun) <= result + 4
            if result == 50:
                break
    assert len(begun) <= 54
