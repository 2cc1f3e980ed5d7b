"""Octave saves channels, nflae precodes them, Octave recomputes every rate from the precoders and powers."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.channel_files import Run
from tests.octave_session import Octave, run_octave

pytestmark = pytest.mark.octave


@pytest.fixture
def octave(tmp_path: Path) -> Octave:
    """Runs an Octave script in ``tmp_path`` with our MATLAB client on its path; returns what it printed."""
    return partial(run_octave, folder=tmp_path)


CHANNELS = """
randn('twister', 7);
H = (randn({size}) + 1i * randn({size})) / sqrt(2 * 32);
{scalars}
save('{version}', 'channels.mat', {names});
"""


def save(octave: Octave, version: str, size: str = "32, 4, 10", scalars: str = "", names: str = "'H'") -> None:
    octave(CHANNELS.format(version=version, size=size, scalars=scalars, names=names))


def largest_rate_error(octave: Octave) -> float:
    return float(octave("printf('%.3e', nflae_check_rates('channels.mat', 'precoded.mat'))"))


@pytest.mark.parametrize("version", ["-v6", "-v7"])
@pytest.mark.parametrize("scheme", ["nflae", "wmmse"])
def test_octave_recomputes_every_rate(
    octave: Octave, nflae: Run, untrained: Path, tmp_path: Path, version: str, scheme: str
) -> None:
    save(octave, version, scalars="power = 2; noise_power = 0.05;", names="'H', 'power', 'noise_power'")
    model = ("--model", untrained) if scheme == "nflae" else ()
    arguments = ("--layout", "nks", "--scheme", scheme, *model, "--alpha-c", 0.6, "--min-rate", 0.3)
    done = nflae("precode", tmp_path / "channels.mat", "-o", tmp_path / "precoded.mat", *arguments)
    assert done.exit_code == 0, done.output
    assert largest_rate_error(octave) < 1e-5


@pytest.mark.parametrize("version", ["-v6", "-v7"])
def test_octave_finds_the_variables_it_was_promised(
    octave: Octave, nflae: Run, untrained: Path, tmp_path: Path, version: str
) -> None:
    save(octave, version)
    precoded = tmp_path / "precoded.mat"
    arguments = ("--layout", "nks", "--model", untrained)
    assert nflae("precode", tmp_path / "channels.mat", "-o", precoded, *arguments).exit_code == 0
    told = octave("""
        r = load('precoded.mat');
        assert(isa(r.precoder, 'single') && iscomplex(r.precoder) && isequal(size(r.precoder), [32 4 10]));
        for name = {'power', 'lambda', 'near_field_score', 'sinr', 'rate'}
          assert(isa(r.(name{1}), 'double') && isequal(size(r.(name{1})), [4 10]), name{1});
        end
        assert(islogical(r.near_field) && isequal(size(r.near_field), [4 10]));
        assert(isequal(size(r.sum_rate), [1 10]) && isequal(size(r.feasible), [1 10]));
        assert(isequal(size(r.fallback), [1 10]));
        assert(max(abs(sum(r.power) - 1)) < 1e-9);
        assert(max(max(abs(sum(abs(double(r.precoder)).^2) - 1))) < 1e-5);
        i = r.nflae_info;
        printf('%s %s %s %s %g', i.scheme, i.model, i.layout, i.convention, i.noise_power);
    """)
    assert told == "nflae untrained nks hermitian 0.01"


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ("4, 32, 10", ("--layout", "kns")),  # users in rows: y = H x
        ("32, 4", ()),  # one drop
        ("32, 4, 3, 5", ("--layout", "nkfs")),
        ("10, 4, 32", ("--layout", "skn")),
        ("4, 32, 10", ("--layout", "kns", "--convention", "hermitian")),
    ],
)
def test_rates_agree_in_every_layout(
    octave: Octave, nflae: Run, tmp_path: Path, size: str, arguments: tuple[str, ...]
) -> None:
    save(octave, "-v7", size)
    done = nflae("precode", tmp_path / "channels.mat", "-o", tmp_path / "precoded.mat", "--scheme", "rzf", *arguments)
    assert done.exit_code == 0, done.output
    assert largest_rate_error(octave) < 1e-5


@pytest.mark.parametrize(
    ("size", "noise", "arguments"),
    [
        ("32, 4, 10", "0.01 * [1; 2; 4; 8]", ("--layout", "nks")),
        ("10, 4, 32", "0.01 * (1:10)'", ("--layout", "skn")),
        ("32, 4, 3, 5", "0.01 * reshape(1:60, 4, 3, 5)", ("--layout", "nkfs", "--power-scope", "total")),
        ("32, 4, 3, 5", "[0.1 0.2 0.3]", ("--layout", "nkfs")),
        ("32, 2, 4, 5", "0.01 * [1; 2; 4; 8]", ("--layout", "nrks", "--receive-antennas", "joint")),
    ],
)
def test_rates_agree_with_a_noise_power_per_user_or_drop(
    octave: Octave, nflae: Run, tmp_path: Path, size: str, noise: str, arguments: tuple[str, ...]
) -> None:
    save(octave, "-v7", size, f"sigma2 = {noise};", "'H', 'sigma2'")
    for version in ("7", "7.3"):
        output = ("-o", tmp_path / "precoded.mat", "--mat-version", version, "--scheme", "rzf")
        done = nflae("precode", tmp_path / "channels.mat", *output, *arguments)
        assert done.exit_code == 0, done.output
        assert largest_rate_error(octave) < 2e-5


def test_skipped_drops_do_not_disturb_the_check(octave: Octave, nflae: Run, tmp_path: Path) -> None:
    save(octave, "-v7", scalars="H(3, 2, 5) = NaN; H(:, 1, 8) = 0;")
    arguments = ("--layout", "nks", "--scheme", "rzf", "--on-bad-drop", "skip")
    done = nflae("precode", tmp_path / "channels.mat", "-o", tmp_path / "precoded.mat", *arguments)
    assert done.exit_code == 0, done.output
    assert largest_rate_error(octave) < 1e-5
    assert octave("r = load('precoded.mat'); printf('%d ', find(isnan(r.sum_rate)))").split() == ["5", "8"]


def test_octave_opens_a_result_in_version_7_3(octave: Octave, nflae: Run, tmp_path: Path) -> None:
    save(octave, "-v7")
    arguments = ("--layout", "nks", "--scheme", "rzf", "--mat-version", "7.3")
    done = nflae("precode", tmp_path / "channels.mat", "-o", tmp_path / "precoded.mat", *arguments)
    assert done.exit_code == 0, done.output
    assert octave("r = load('precoded.mat'); printf('%d ', size(r.rate))").split() == ["4", "10"]


def test_the_example_is_octaves_own_and_agrees(octave: Octave, nflae: Run, tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "octave_channels.mat"
    shutil.copy(example, tmp_path / "channels.mat")
    arguments = ("--layout", "nks", "--scheme", "wmmse")
    done = nflae("precode", tmp_path / "channels.mat", "-o", tmp_path / "precoded.mat", *arguments)
    assert done.exit_code == 0, done.output
    assert largest_rate_error(octave) < 1e-5
