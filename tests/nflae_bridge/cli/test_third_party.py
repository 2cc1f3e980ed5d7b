"""A package of twenty lines adds a scheme and a source; a broken one costs one line, and no other scheme."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

import simulator.plugins as plugins
from matlab_io import open_channels
from nflae_bridge import Client, precode
from nflae_bridge.cli.commands.studies.evaluate import command as evaluate
from nflae_bridge.live.errors import BadRequest
from simulator.channels.sources.registry import REGISTRY as SOURCES
from simulator.schemes import scheme_names
from simulator.schemes.registry import REGISTRY as SCHEMES
from tests.channel_files import Run, WriteMat, load, random_channels
from tests.nflae_bridge.live.live_server import LiveServer

MODULE = '''
import numpy as np
import torch

import simulator.schemes.zf
from simulator.channels.sources import ChannelSet, register
from simulator.downlink.candidates import equal_power_precoding


def strongest_antennas(batch, budget, kept: int = 4, conjugate: bool = False):
    """Match each beam to the strongest entries of its user's channel."""
    smallest = batch.channels.abs().topk(kept, -1).values[..., -1:]
    beams = torch.where(batch.channels.abs() >= smallest, batch.channels, 0)
    return equal_power_precoding(batch, beams.conj() if conjugate else beams, budget)


@register("another name", ("drops", "users", "antennas"))
def ones(request):
    """Draw channels of ones."""
    size = (request.drops or 3, request.users or 2, request.antennas or 8)
    return ChannelSet(*size, iter([np.ones(size, np.complex64)]))
'''
ENTRY_POINTS = """[nflae.schemes]
strongest-antennas = acme_beams:strongest_antennas
broken = acme_beams.missing:scheme
not-a-function = acme_beams:__name__
zf = acme_beams:strongest_antennas
[nflae.sources]
ones = acme_beams:ones
broken = acme_beams.missing:source
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "acme_beams.py").write_text(MODULE)
    metadata = folder / "acme_beams-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-beams\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(site)
    plugins._without_clashes.cache_clear()
    yield
    for registry in (SCHEMES, SOURCES):
        for name in registry.third_party().entries:
            registry.loaded.pop(name, None)
    plugins._without_clashes.cache_clear()
    sys.modules.pop("acme_beams", None)


@pytest.fixture
def channel_file(write_mat: WriteMat) -> Path:
    return write_mat(random_channels())


BROKEN = "scheme 'broken' of package acme-beams 1.2 cannot be loaded: ModuleNotFoundError: No module named 'acme_beams."


@pytest.mark.usefixtures("installed")
def test_names_are_in_the_help_and_completed(nflae: Run) -> None:
    for command in ("precode", "evaluate", "link", "bench", "stream"):
        assert "strongest-antennas" in "".join(nflae(command, "--help").stdout.split())
    sources = " ".join(nflae("simulate", "--help").stdout.split())
    assert "ones" in sources[sources.index("One of") :].split(".")[0]
    option = next(each for each in evaluate.params if each.name == "schemes")
    completed = option.shell_complete(click.Context(evaluate), "rzf,stro")
    assert [item.value for item in completed] == ["rzf,strongest-antennas"]


def test_names_are_found_without_importing_torch(site: Path) -> None:
    program = (
        "import sys, simulator.schemes.registry as r; print(r.scheme_names(), {'torch', 'numpy'} & set(sys.modules))"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(site)])
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert b"'strongest-antennas'" in done.stdout
    assert done.stdout.strip().endswith(b"set()")


@pytest.mark.usefixtures("installed")
def test_evaluate_runs_it_beside_the_others_and_names_the_broken_one(
    nflae: Run, channel_file: Path, tmp_path: Path
) -> None:
    done = nflae("evaluate", channel_file, "--csv", tmp_path / "out.csv", "--model", "tiny")
    assert done.exit_code == 0, done.stderr
    for reason in (BROKEN, "acme-beams 1.2: scheme 'zf' is built in, this one is ignored"):
        assert sum(reason in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    with open(tmp_path / "out.csv") as file:
        found = {row["scheme"] for row in csv.DictReader(file)}
    assert found == {"capacity", "nflae", "strongest-antennas", *scheme_names()} - {"broken", "not-a-function"}
    rates = {}
    for schemes in ("mrt", "strongest-antennas:kept=16", "strongest-antennas:kept=1"):
        nflae("evaluate", channel_file, "--csv", tmp_path / "out.csv", "--schemes", schemes, "--model", "tiny")
        with open(tmp_path / "out.csv") as file:
            rates[schemes] = next(csv.DictReader(file))["mean_sum_rate"]
    assert rates["mrt"] == rates["strongest-antennas:kept=16"] != rates["strongest-antennas:kept=1"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("strongest-antennas:keep=2", "scheme strongest-antennas has no option 'keep'; options of strongest-antennas:"),
        ("strongest-antennas:kept=two", "kept has to be a whole number, got 'two'"),
        ("strongest-antennas:conjugate=2", "conjugate has to be true or false, got '2'"),
        ("broken", BROKEN),
        ("not-a-function", "scheme 'not-a-function' of package acme-beams 1.2 cannot be loaded: TypeError: it is"),
        ("another name", "unknown scheme 'another name'"),
        ("nosuch", "acme-beams 1.2: scheme 'zf' is built in, this one is ignored"),
    ],
)
def test_one_line_says_it(nflae: Run, channel_file: Path, tmp_path: Path, spec: str, message: str) -> None:
    done = nflae("precode", channel_file, "-o", tmp_path / "out.mat", "--scheme", spec)
    assert done.exit_code in (1, 2)
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("installed")
def test_precode_bench_and_link_run_it(nflae: Run, channel_file: Path, tmp_path: Path) -> None:
    spec = "strongest-antennas:kept=2:conjugate=no"
    done = nflae("precode", channel_file, "-o", tmp_path / "out.mat", "--scheme", spec)
    assert done.exit_code == 0, done.stderr
    assert load(tmp_path / "out.mat")["nflae_info"]["scheme"] == spec
    bench = ("--batches", 1, "--repeats", 1, "--drops", 2, "--users", 2, "--antennas", 8, "--threads", 1)
    done = nflae("bench", "-o", tmp_path / "bench", "--schemes", f"{spec},wmmse:iterations=3", *bench)
    assert done.exit_code == 0, done.stderr
    with open(tmp_path / "bench" / "bench.csv") as file:
        rows = list(csv.DictReader(file))
    assert {(row["scheme"], row["iterations"]) for row in rows} == {("floor", ""), (spec, ""), ("wmmse", "3")}
    pytest.importorskip("sionna.phy")
    link = ("--snr-db", 10, "--symbols", 24, "--code", "none", "--errors", 1)
    done = nflae("link", channel_file, "-o", tmp_path / "link", "--scheme", spec, *link)
    assert done.exit_code == 0, done.stderr
    assert spec in (tmp_path / "link" / "link.csv").read_text()


@pytest.mark.usefixtures("installed")
def test_simulate_draws_from_its_source(nflae: Run, tmp_path: Path) -> None:
    done = nflae("simulate", "-o", tmp_path / "ones.mat", "--source", "ones", "--users", 4)
    assert done.exit_code == 0, done.stderr
    with open_channels(tmp_path / "ones.mat") as file:
        assert (file.drops, file.users, file.antennas) == (3, 4, 8)
    done = nflae("simulate", "-o", tmp_path / "broken.mat", "--source", "broken")
    assert done.exit_code == 1
    assert done.stderr.startswith("nflae: error: source 'broken' of package acme-beams 1.2 cannot be loaded: ")
    assert len(done.stderr.splitlines()) == 1
    done = nflae("simulate", "-o", tmp_path / "broken.mat", "--source", "another name")
    assert "unknown source 'another name'" in done.stderr


def test_a_server_answers_with_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), str(site)]))
    channels = random_channels()
    with LiveServer("--model", "tiny") as server:
        assert BROKEN in server.wait_for("scheme_unusable").replace("\\", "")
        with Client(server.address) as client:
            names = client.status()["schemes"]
            assert {"nflae", "strongest-antennas", *scheme_names()} == set(names)
            answer = client.precode(channels, scheme="strongest-antennas:kept=16")
            np.testing.assert_allclose(answer.precoder, client.precode(channels, scheme="mrt").precoder, rtol=1e-6)
            few = client.precode(channels, scheme="wmmse:iterations=1").sum_rate
            assert (few < client.precode(channels, scheme="wmmse").sum_rate).all()
            for spec, message in {"broken": BROKEN, "wmmse:iterations=0": "from 1 to 10000", "mmse": "unknown"}.items():
                with pytest.raises(BadRequest, match=re.escape(message)):
                    client.precode(channels, scheme=spec)


def test_python_takes_options() -> None:
    channels = random_channels()
    few = precode(channels, scheme="wmmse:iterations=1").sum_rate
    assert (few < precode(channels, scheme="wmmse").sum_rate).all()
    with pytest.raises(ValueError, match=r"iterations has to be a whole number from 1 to 10000, got '0\.5'"):
        precode(channels, scheme="wmmse:iterations=0.5")
