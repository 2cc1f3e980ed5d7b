"""``nflae link``: from a file or a scenario to tables and pictures, and on after an interruption."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import j0

if importlib.util.find_spec("sionna") is None:
    reason = "sionna-no-rt is not installed (pip install 'nflae-bridge[link]', Python 3.11 or 3.12)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge.cli.commands.studies.placeholders import link_points
from nflae_bridge.files.budget.choice import BudgetRequest, choose_budget
from nflae_bridge.plots.link import error_rates_picture, goodput_picture
from nflae_bridge.plots.look import FigureLook, StatedSize
from nflae_bridge.studies.link.source import FileDrops, ScenarioDrops
from nflae_bridge.studies.link.sweep import Settings, Unit, _transceivers, run_unit
from simulator.csi.models import CsiModel, parse_csi
from simulator.link_level.counting import Tally
from tests.channel_files import Run, WriteMat, random_channels
from tests.warm_python import WarmProgram

QUICK = ("--scheme", "rzf,mrt", "--modulation", "qpsk", "--symbols", 24, "--snr-db", "0:12:6", "--drops", 24)
Link = Callable[..., Path]


@pytest.fixture
def link(nflae: Run, tmp_path: Path) -> Link:
    """Runs a quick ``nflae link`` that works, and returns its folder."""

    def run(*arguments: object, folder: str = "out") -> Path:
        done = nflae("link", *arguments, "-o", tmp_path / folder)
        assert done.exit_code == 0, done.output
        return tmp_path / folder

    return run


def rows(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def test_a_scheme_that_needs_sic_is_refused(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    done = nflae("link", write_mat(random_channels()), "-o", tmp_path / "out", "--scheme", "rzf,noma")
    assert done.exit_code == 2
    assert "noma needs receivers that decode and cancel" in done.stderr
    assert "leave it out" in done.stderr
    assert not (tmp_path / "out").exists()


def test_tables_and_pictures(link: Link, write_mat: WriteMat) -> None:
    folder = link(write_mat(random_channels(drops=6, users=3)), *QUICK, "--errors", 100000)
    summary, users = rows(folder / "link.csv"), rows(folder / "users.csv")
    assert [(row["scheme"], row["snr_db"]) for row in summary] == [
        (name, snr) for snr in ("0", "6", "12") for name in ("rzf", "mrt")
    ]
    assert {row["user"] for row in users} == {"1", "2", "3"}
    for row in summary:
        mine = [user for user in users if (user["scheme"], user["snr_db"]) == (row["scheme"], row["snr_db"])]
        assert int(row["blocks"]) == 24 * 3 == sum(int(user["blocks"]) for user in mine)
        assert int(row["bits"]) == 24 * 3 * 24
        assert row["stopped_by"] == "drops"
        for name in ("goodput", "se"):
            assert float(row[name]) == pytest.approx(sum(float(user[name]) for user in mine), abs=5e-6)
        assert float(row["goodput"]) <= float(row["se"])
        assert float(row["se"]) == pytest.approx(float(row["expected_se"]), rel=1e-5)
        for rate in ("ber", "bler"):
            assert float(row[f"{rate}_low"]) <= float(row[rate]) <= float(row[f"{rate}_high"])
    for name in ("error_rates", "goodput", "evm"):
        assert (folder / f"{name}.png").stat().st_size > 10_000


def test_tables_are_kept_where_a_picture_cannot_be_drawn(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("--scheme", "mrt", "--modulation", "qpsk", "--symbols", 24, "--snr-db", "10", "--drops", 2)
    source = write_mat(random_channels(drops=2))
    done = nflae("link", source, "-o", tmp_path / "out", *quick, "--refresh", 1, "--size", "1.2x1in")
    assert (done.exit_code, "1.2 x 1 inches have no room" in done.stderr) == (1, True)  # before the study
    assert not (tmp_path / "out").exists()

    def refuse(*_: object) -> bytes:
        raise NflaeError("no room")

    monkeypatch.setattr(FigureLook, "render", refuse)
    done = nflae("link", source, "-o", tmp_path / "out", *quick)
    assert (done.exit_code, "no room" in done.stderr) == (1, True)
    assert {"link.csv", "users.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_the_size_has_room_for_studies_without_errors_too() -> None:
    (without_errors,) = (
        points for points in link_points(["mrt", "rzf"], [10.0], 0) if not points[0].sums["mrt"].bit_errors.any()
    )
    draws = [partial(error_rates_picture, without_errors, "16-QAM, perfect CSI")]
    expected = r"^8.4 x 5.6 cm have no room for this plot in style house: pass a larger --size, e.g. (\S+)x(\S+)cm, or"
    with pytest.raises(NflaeError, match=expected) as fault:
        FigureLook("house", StatedSize(8.4, 5.6, "cm")).check_room(draws)
    found = re.match(expected, str(fault.value))
    assert found is not None
    FigureLook("house", StatedSize(float(found[1]), float(found[2]), "cm")).check_room(draws)


def test_the_default_sweep_is_around_the_files_link_budget(link: Link, write_mat: WriteMat) -> None:
    source = write_mat(random_channels(), noise_power_dbm=20.0, power_dbm=37.0)
    options = ("--layout", "nks", "--scheme", "mrt", "--modulation", "qpsk", "--code", "none", "--symbols", 4)
    folder = link(source, *options, "--drops", 6)
    assert [float(row["snr_db"]) for row in rows(folder / "link.csv")] == list(np.arange(2, 32.1, 2.5))


def test_channels_are_referred_to_one_noise_power(write_mat: WriteMat) -> None:
    H, noise = random_channels(drops=5), np.array([[0.01], [0.02], [0.08]])
    with open_channels(write_mat(H, noise_power=noise), layout="nks") as file:
        budget = choose_budget(BudgetRequest(), file)
        source = FileDrops(file, 20, 3, CsiModel(), 1, "error", budget.noise)
    assert budget.noise_power.value == pytest.approx((0.01 * 0.02 * 0.08) ** (1 / 3))
    drawn = torch.cat([source.recipe(index).batch().channels for index in range(2)]).numpy()
    np.testing.assert_allclose(drawn, H * np.sqrt(budget.noise_power.value / noise), rtol=1e-5)


def test_a_point_stops_when_every_scheme_has_its_errors(link: Link, write_mat: WriteMat) -> None:
    folder = link(write_mat(random_channels(drops=6, users=3)), *QUICK, "--errors", 5)
    for row in rows(folder / "link.csv"):
        if row["stopped_by"] == "errors":
            assert int(row["block_errors"]) >= 5
            assert int(row["blocks"]) < 72
    assert rows(folder / "link.csv")[0]["stopped_by"] == "errors"


def test_goes_on_where_it_was_with_the_same_result(link: Link, write_mat: WriteMat) -> None:
    """As after a kill: a record that ends in the middle of a line, and none of the tables."""
    source = write_mat(random_channels(drops=6, users=3))
    whole = link(source, *QUICK, folder="whole")
    lines = (whole / "units.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 6
    cut = whole.parent / "cut"
    cut.mkdir()
    (cut / "units.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:99])
    link(source, *QUICK, folder="cut")
    for name in ("link.csv", "users.csv", "error_rates.png"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert (cut / "units.jsonl").read_bytes() == (whole / "units.jsonl").read_bytes()


def test_more_errors_and_more_snrs_go_on_from_what_is_there(link: Link, write_mat: WriteMat) -> None:
    source, folder = write_mat(random_channels(drops=6, users=3)), "grown"
    link(source, *QUICK, "--errors", 5, folder=folder)
    few = (link(source, *QUICK, "--errors", 5, folder=folder) / "units.jsonl").read_bytes()
    more = link(source, *QUICK, "--errors", 60, "--snr-db", "0:18:6", folder=folder)
    assert (more / "units.jsonl").read_bytes().startswith(few)
    fresh = link(source, *QUICK, "--errors", 60, "--snr-db", "0:18:6", folder="fresh")
    assert (more / "link.csv").read_bytes() == (fresh / "link.csv").read_bytes()


@pytest.mark.slow
def test_killed_and_repeated(link: Link, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels(drops=6, users=3))
    options = (source, *QUICK, "--drops", 120, "--errors", 1_000_000)
    whole = link(*options, folder="whole")
    with open(os.devnull, "w") as nowhere:
        process = WarmProgram("link", *options, "-o", tmp_path / "killed", stdout=nowhere, stderr=nowhere)
    record = tmp_path / "killed" / "units.jsonl"
    while not (record.exists() and record.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "link.csv").exists()
    killed = link(*options, folder="killed")
    assert (killed / "link.csv").read_bytes() == (whole / "link.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "told"), [(0, "interrupted before a batch was done"), (2, "2 finished batches in")])
def test_an_interrupt_counts_the_finished_batches(
    nflae: Run, link: Link, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, told: str
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = write_mat(random_channels(drops=4))
    once = ("link", path, *QUICK[:6], "--snr-db", 6, "--drops", 4, "--batch", 2, "-o", tmp_path / "out")
    if before:
        assert nflae(*once).exit_code == 0
    monkeypatch.setattr("nflae_bridge.studies.link.sweep.sweep", interrupt)
    done = nflae(*once)
    assert done.exit_code == 1
    assert told in done.stderr
    assert done.stderr.rstrip().endswith(": repeat the command to resume")


def test_workers_change_nothing(link: Link, write_mat: WriteMat, warm_workers: None) -> None:
    pytest.importorskip("distributed")
    source = write_mat(random_channels(drops=6, users=3))
    here = link(source, *QUICK, folder="here")
    there = link(source, *QUICK, "--cluster", "local:2", folder="there")
    assert (here / "link.csv").read_bytes() == (there / "link.csv").read_bytes()


def test_a_process_computes_its_first_unit_like_the_next_ones() -> None:
    settings = Settings(("nflae",), "qpsk", "none", 24)
    unit = Unit(10.0, (0,), (ScenarioDrops("uav", 3, 32, 5, 0.0, seed=4).recipe(0),))
    _transceivers.cache_clear()
    (first,), (second,) = run_unit(settings, unit), run_unit(settings, unit)
    for each in fields(Tally):
        np.testing.assert_array_equal(*(getattr(done.tallies["nflae"], each.name) for done in (first, second)))


def test_scenario_with_adaptive_modulation_noisy_csi_and_ofdm(link: Link) -> None:
    options = ("--scenario", "uav", "--users", 4, "--antennas", 32, "--scheme", "nflae,zf", "--modulation", "auto")
    folder = link(*options, "--csi", "noisy:10", "--ofdm", "12:3", "--symbols", 84, "--snr-db", "15,25", "--drops", 8)
    for row in rows(folder / "link.csv"):
        assert 0 < float(row["goodput"]) <= float(row["se"])
        assert float(row["expected_se"]) != pytest.approx(float(row["se"]), rel=1e-3)


def test_timeline(link: Link, write_mat: WriteMat) -> None:
    """Each drop has its row, and a precoder that isn't refreshed gets worse."""
    first = random_channels(drops=1, users=3, antennas=32)
    drift = random_channels(drops=1, users=3, antennas=32, seed=1)
    angle = np.linspace(0, 0.5, 9).reshape(-1, 1, 1)
    channels = np.cos(angle) * first + np.sin(angle) * drift
    folder = link(
        write_mat(channels), *QUICK, "--scheme", "zf", "--snr-db", "20", "--refresh", 4, "--batch", 5, "--errors", 1
    )
    series = [float(row["se"]) for row in rows(folder / "timeline.csv")]
    assert [row["drop"] for row in rows(folder / "timeline.csv")] == [str(drop) for drop in range(1, 10)]
    assert series[0] > series[1] > series[2] > series[3] + 0.1
    assert series[4] > series[5] > series[6] > series[7] + 0.1
    assert series[8] > series[7] + 0.1
    assert (folder / "timeline.png").stat().st_size > 10_000


@pytest.mark.parametrize("subcarriers", [1, 3])
def test_late_csi_is_an_earlier_slots(write_mat: WriteMat, subcarriers: int) -> None:
    slots, late, refresh = 7, 2, 3
    channels = random_channels(drops=slots * subcarriers, users=2, antennas=4)
    path = write_mat(H=channels.reshape(slots, subcarriers, 2, 4).squeeze(1) if subcarriers == 1 else None)
    if subcarriers > 1:
        path = write_mat(grid=channels.reshape(slots, subcarriers, 2, 4).T)
    layout = "nks" if subcarriers == 1 else "nkfs"
    with open_channels(path, layout=layout) as file:
        source = FileDrops(file, 1000, 4, parse_csi(f"aged:{late}"), refresh, "error")
    drops = [(s, f) for s in range(slots) for f in range(subcarriers) if s - s % refresh >= late]
    assert source.drops.tolist() == [s * subcarriers + f for s, f in drops]
    found = [source.recipe(index).batch() for index in range(source.batches_per_pass)]
    true = torch.cat([batch.channels for batch in found])
    known = torch.cat([batch.snapshots[batch.history[batch.known_of, -1]] for batch in found])
    for place, (s, f) in enumerate(drops):
        np.testing.assert_array_equal(true[place], channels[s * subcarriers + f])
        np.testing.assert_array_equal(known[place], channels[(s - s % refresh - late) * subcarriers + f])


def test_bad_drops_are_left_out_of_both_ends(write_mat: WriteMat) -> None:
    channels = random_channels(drops=6, users=2, antennas=4)
    channels[3, 1, 2] = np.nan
    path = write_mat(channels)
    with open_channels(path) as file:
        source = FileDrops(file, 1000, 4, parse_csi("aged:1"), 1, "skip")
        assert source.drops.tolist() == [1, 2, 5]
        with pytest.raises(NflaeError, match="drop 4, user 2, antenna 3 is NaN"):
            FileDrops(file, 1000, 4, CsiModel(), 1, "error")
        with pytest.raises(NflaeError, match="none of 6 drops can be used with CSI from 6 slots before"):
            FileDrops(file, 1000, 4, parse_csi("aged:6"), 1, "skip")


def test_passes_go_through_the_file_evenly(write_mat: WriteMat) -> None:
    channels = random_channels(drops=7, users=2, antennas=4)
    with open_channels(write_mat(channels)) as file:
        source = FileDrops(file, 20, 3, CsiModel(), 1, "error")
    assert source.batches(20) == 2 * 3 + 2
    assert source.batches(7) == 3
    second = torch.cat([source.recipe(index).batch().channels for index in range(3, 6)])
    np.testing.assert_array_equal(second, channels)


def test_scenario_drops_are_the_same_whoever_draws_them() -> None:
    source = ScenarioDrops("uav", 3, 8, 5, 10.0, seed=4)
    batches = [source.recipe(index).batch() for index in (1, 0, 1)]
    assert torch.equal(batches[0].channels, batches[2].channels)
    assert not torch.equal(batches[0].channels, batches[1].channels)
    # 10 m/s at 30 GHz, slots of 1/8 ms: 1.0007 kHz of Doppler
    assert batches[0].slot_correlation == pytest.approx(float(j0(2 * math.pi * 1000.69 * 125e-6)), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--modulation", "8psk"), "there are qpsk, 16qam, 64qam, 256qam, auto, auto:256qam"),
        (("--code", "ldpc:0.99"), "rates from"),
        (("--code", "polar:1/2"), "there are none and ldpc:RATE"),
        (("--csi", "stale"), "there are perfect"),
        (("--csi", "aged:6"), "none of 6 drops"),
        (("--symbols", 100, "--ofdm", "12:1"), "give --symbols 108"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--model", "nowhere", "--scheme", "nflae"), "no model 'nowhere'"),
    ],
)
def test_bad_input_is_one_line(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    done = nflae("link", write_mat(random_channels()), "-o", tmp_path / "out", "--scheme", "rzf", *options)
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("nflae: error: ")
    assert told in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "either IN.mat or --scenario"),
        (("in.mat", "--scenario", "uav"), "either IN.mat or --scenario"),
        (("--scenario", "uav", "--refresh", 2), "not successive slots"),
        (("in.mat", "--snr-db", "5:1:1"), "FIRST:LAST:STEP"),
        (("in.mat", "--snr-db", "a,b"), "FIRST:LAST:STEP"),
        (("in.mat", "--snr-db", "0:1e9:1"), "FIRST:LAST:STEP"),
        (("in.mat", "--snr-db", "nan"), "FIRST:LAST:STEP"),
        (("in.mat", "--ofdm", "12"), ""),
        (("in.mat", "--ofdm", "12:13"), "at most as many"),
        (("in.mat", "--ofdm", "a:1"), "SUBCARRIERS:PREFIX"),
        (("in.mat", "--scheme", "best"), "unknown scheme 'best'"),
    ],
)
def test_wrong_usage(nflae: Run, tmp_path: Path, options: tuple[object, ...], told: str) -> None:
    done = nflae("link", *options, "-o", tmp_path / "out")
    assert done.exit_code == (2 if told else 1), done.output
    assert told in " ".join(done.output.replace("│", " ").split())


def test_another_run_in_the_folder_is_not_mixed_in(nflae: Run, link: Link, write_mat: WriteMat) -> None:
    source = write_mat(random_channels())
    quick = (*QUICK, "--snr-db", "0", "--drops", 6)
    folder = link(source, *quick)
    before = (folder / "units.jsonl").read_bytes()
    for options, told in ((("--csi", "noisy:3"), "csi is perfect there, noisy:3 here"), (("--seed", 1), "seed is 0")):
        done = nflae("link", source, *quick, *options, "-o", folder)
        assert done.exit_code == 1
        assert told in done.stderr
    assert (folder / "units.jsonl").read_bytes() == before
    (folder / "units.jsonl").write_bytes(before.replace(b"snr_db", b"srn_db"))
    done = nflae("link", source, *quick, "-o", folder)
    assert (done.exit_code, "line 2 is damaged" in done.stderr) == (1, True)
    file = folder / "link.csv"
    assert "is a file; name a folder" in nflae("link", source, *quick, "-o", file).stderr


def test_without_sionna(monkeypatch: pytest.MonkeyPatch, nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    done = nflae("link", write_mat(random_channels()), "-o", tmp_path / "out")
    assert (done.exit_code, "nflae link needs the extra 'link' (sionna is not installed" in done.stderr) == (1, True)


def test_near_field_limit_is_held_by_the_same_labels(link: Link, write_mat: WriteMat) -> None:
    folder = link(write_mat(random_channels()), *QUICK, "--alpha-c", 0.5, "--snr-db", "10", "--drops", 6)
    power_fractions: npt.ArrayLike = [row["near_field_share"] for row in rows(folder / "link.csv")]
    assert len(set(map(str, np.asarray(power_fractions)))) == 1


def test_plots_of_a_single_snr_show_it_and_what_the_formula_gives() -> None:
    points = link_points(["mrt", "rzf"], [10.0], 0)[0]
    figure = error_rates_picture(points, "")
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((9.5, 10.5))
        assert axes.xaxis.get_offset_text().get_text() == ""
    (axes,) = goodput_picture(points, 2, 24, "").axes
    assert [line.get_marker() for line in axes.get_lines()[::2]] == ["_"] * 3  # two schemes and the legend


def test_snrs_without_blocks_have_no_limit_of_errors() -> None:
    point = link_points(["mrt"], [-40.0], 0)[0][0]
    silent = {each.name: np.zeros(1) for each in fields(Tally)} | {"chances": np.ones(1)}
    (axes, _) = error_rates_picture([replace(point, sums={"mrt": Tally(**silent)})], "").axes
    assert "no error: 95 % upper limit" not in axes.get_legend_handles_labels()[1]
