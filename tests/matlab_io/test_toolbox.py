"""The toolbox folder in a real Octave: the functions without a server, the package, examples, descriptions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest
import scipy.io

import matlab_io
from matlab_io.version import __version__
from nflae_bridge import precode
from nflae_bridge.cli.group import main
from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import octave_command, require_zeromq, run_octave
from tests.warm_python import warm_nflae

ROOT = Path(__file__).parents[2]
TOOLBOX = Path(matlab_io.__file__).parent / "matlab"
SIGNATURES = json.loads((TOOLBOX / "resources" / "functionSignatures.json").read_text())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return warm_nflae(tmp_path_factory.mktemp("warm"))


def options_of(name: str) -> list[str]:
    return [entry["name"] for entry in SIGNATURES[name]["inputs"] if entry["kind"] == "namevalue"]


def kebab(name: str) -> str:
    return "--" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


# What describes the functions


def test_contents_list_every_function_with_its_first_line() -> None:
    contents = (TOOLBOX / "Contents.m").read_text()
    assert re.search(r"^% Version (\S+) \d\d-\w{3}-\d{4}$", contents, re.MULTILINE)[1] == __version__  # type: ignore[index]
    listed = dict(re.findall(r"^%   (\S+) +- (.*)$", contents, re.MULTILINE))
    for name, text in listed.items():
        folder = "examples" if name in {path.stem for path in TOOLBOX.glob("examples/*.m")} else "."
        path = TOOLBOX / folder / (name.replace("nflae.", "+nflae/") + ".m")
        first = next(line for line in path.read_text().splitlines() if line.startswith("%"))
        assert text.rstrip(".") in first, name
    public = {f"nflae.{path.stem}" for path in TOOLBOX.glob("+nflae/*.m")} | {"nflae_check_rates"}
    assert set(listed) == public | {path.stem for path in TOOLBOX.glob("examples/*.m")}


@pytest.mark.parametrize("command", ["precode", "predict", "simulate"])
def test_signatures_of_functions_are_options_of_the_command(command: str) -> None:
    known = main.get_command(click.Context(main), command)
    assert known is not None
    options = {option: parameter for parameter in known.params for option in parameter.opts}
    variables = {"Power", "NoisePower", "Program"}  # variables of the file, and ours
    entries = [entry for entry in SIGNATURES[f"nflae.{command}"]["inputs"] if entry["kind"] == "namevalue"]
    for entry in entries:
        if entry["name"] in variables:
            continue
        parameter = options[kebab(entry["name"])]
        choices = re.findall(r"'([^']+)'", "".join(map(str, entry["type"][1:])))
        if isinstance(parameter.type, click.Choice) and choices:
            assert set(choices) <= set(parameter.type.choices), entry["name"]


@pytest.mark.parametrize("method", ["precode", "predict"])
def test_signatures_of_the_client_are_its_options(method: str) -> None:
    source = (TOOLBOX / "+nflae" / "+internal" / f"{method}_request.m").read_text()
    own = {"precode": r"named\(arguments, \{(.*?)\}\)", "predict": r"own = \{(.*?)\};"}[method]
    listed = re.findall(r"'(\w+)'", re.findall(own, source, re.DOTALL)[0])
    also = [] if method == "precode" else ["Layout", "Convention", "Timeout"]
    assert sorted(options_of(f"nflae.Client.{method}")) == sorted(listed + also)


# In Octave


@pytest.mark.octave
def test_a_function_returns_what_python_returns(program: Path, tmp_path: Path) -> None:
    printed = run_octave(
        f"""
        setenv('NFLAE_PROGRAM', '{program}');
        H = (randn(16, 3, 2) + 1i * randn(16, 3, 2)) / 4;
        r = nflae.precode(H, 'NoisePower', [0.1 0.2 0.1], 'Weights', [1 2 3], 'Effort', 'fast');
        save('-v7', 'r.mat', '-struct', 'r'); save('-v7', 'h.mat', 'H');
        z = nflae.precode(permute(H, [2 1 3]), 'Layout', 'kns', 'Scheme', 'zf', 'MatVersion', 7.3);
        disp(size(z.precoder));
        p = nflae.predict(H(:, :, [1 1 1 1 1 1]), 'Ahead', 2, 'History', 6, 'Method', 'hold', 'Force', true);
        disp(norm(p.H(:, :, 2) - H(:, :, 1)) < 1e-5);
        printf('%s\\n', r.nflae_info.report);
        """,
        tmp_path,
    )
    assert re.sub(r"\s+", " ", printed).startswith(" 16 3 2 1 problem weights channels H read as 16 antennas x 3 users")
    assert "/" not in re.findall(r"written .*", printed)[0]
    h = scipy.io.loadmat(tmp_path / "h.mat")["H"].transpose(2, 1, 0)
    scaled = h / np.sqrt([1.0, 2.0, 1.0])[:, None]  # unequal noise powers are unequal gains
    ours = precode(scaled, noise_power=0.1, weights=np.array([1.0, 2.0, 3.0]), effort="fast")
    theirs = scipy.io.loadmat(tmp_path / "r.mat")
    np.testing.assert_allclose(theirs["precoder"].transpose(2, 1, 0), ours.precoder, 1e-4, 1e-5)
    np.testing.assert_allclose(theirs["power"].T, ours.power, 1e-4, 1e-6)
    assert not list(Path("/tmp").glob("oct-*/channels.mat"))


@pytest.mark.octave
def test_errors_are_one_line(program: Path, tmp_path: Path) -> None:
    expected = {
        "H, 'RfChain', 2": "nflae:badRequest|No such option '--rf-chain'",
        "H, 'Scheme'": "nflae:badRequest|options come in pairs",
        "H, 'Power', 1, 'power', 2": "nflae:badRequest|option 'power' is given twice",
        "H, 'Layout', 'nkq'": "nflae:badRequest|Layout must name",
        "H, 'Weights', [1 2 3]": "nflae:failed|weights is 1 x 3; expected",
        "H, 'Program', 'no-such-program'": "nflae:noProgram|cannot run no-such-program",
        "H, 'NoisePower', 'x'": "nflae:badRequest|NoisePower must be a number or an array of numbers, W, got char",
        "H, 'Output', 'x.mat'": "nflae:badRequest|option 'Output' is of files",
        "H, 'SnrDb', true": "nflae:badRequest|Option '--snr-db' requires an argument",
        "real(H), 'Refine', 1": "nflae:badRequest|H is real",
    }
    attempt = "try; nflae.precode({}); catch e; printf('%s|%s\\n', e.identifier, e.message); end;"
    printed = run_octave(
        f"setenv('NFLAE_PROGRAM', '{program}'); H = complex(ones(8, 2), eye(8, 2));"
        + "".join(attempt.format(call) for call in expected),
        tmp_path,
    )
    lines = printed.splitlines()
    assert len(lines) == len(expected), printed
    for line, (call, text) in zip(lines, expected.items(), strict=True):
        assert line.startswith(text), call


@pytest.mark.octave
def test_the_package_installs_and_every_example_runs(program: Path, tmp_path: Path) -> None:
    require_zeromq()
    build = tmp_path / "build"
    subprocess.run(["make", "octave-package", f"BUILD={build}"], cwd=ROOT, check=True, capture_output=True)
    [package] = build.glob("nflae-*.tar.gz")
    with LiveServer() as server:
        examples = f"""
        pkg('prefix', '{tmp_path}', '{tmp_path}'); pkg('local_list', '{tmp_path}/list');
        pkg('install', '{package}'); pkg('load', 'nflae');
        setenv('NFLAE_PROGRAM', '{program}');
        folder = fileparts(which('nflae_check_rates'));
        run(fullfile(folder, 'gettingStarted.m'));
        for name = {{'compare_schemes', 'live_slots', 'predict_slots'}}
          text = fileread(fullfile(folder, 'examples', [name{{1}} '.m']));
          eval(strrep(text, 'nflae.Client()', 'nflae.Client(''{server.address}'')'));
        end
        """
        command = [part for part in octave_command(examples) if part not in ("--path", str(TOOLBOX))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rate, by_hand = map(float, re.findall(r"sum rate (\S+) bps/Hz, by hand (\S+)", done.stdout)[0])
    assert rate == pytest.approx(by_hand, abs=0.02)
    rates = dict(re.findall(r"^(rzf|nflae) +(\S+) bps/Hz", done.stdout, re.MULTILINE))
    assert float(rates["nflae"]) > float(rates["rzf"])
    reached, expected = map(float, re.findall(r"(\S+) bps/Hz, (\S+) if the channels", done.stdout)[0])
    assert 0.5 * expected < reached < expected
    predicted, held = map(float, re.findall(r"CSI error: (\S+) dB predicted, (\S+) dB held", done.stdout)[0])
    assert predicted < held - 10
