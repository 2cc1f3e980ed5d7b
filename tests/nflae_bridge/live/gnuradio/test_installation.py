"""``nflae gnuradio``: found by an unmodified GRC, removed without a trace, refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from matlab_io.errors import NflaeError
from nflae_bridge.cli.group import main
from nflae_bridge.live.gnuradio.blocks import installation
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import gnuradio  # noqa: F401

BLOCKS = ["nflae_csi_recorder", "nflae_downlink_channel", "nflae_evm_probe", "nflae_precoder"]
LIBRARY = """
from os.path import exists, join
from gnuradio import gr
from gnuradio.grc.core.platform import Platform
platform = Platform(version=gr.version(), version_parts=("3", "10", "0"), prefs=gr.prefs())
paths = platform.config.block_paths  # of GRC's own blocks the one that it requires: all of them take seconds
platform.build_library([one if exists(one := join(path, "options.block.yml")) else path for path in paths])
print(*sorted(name for name, block in platform.blocks.items() if block.category == ["nflae"]))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "PYTHONPATH", "GRC_BLOCKS_PATH", "GRC_HIER_PATH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def call(*arguments: str) -> Result:
    return CliRunner(catch_exceptions=True).invoke(main, ["gnuradio", *arguments])


def paths(folder: Path) -> set[Path]:
    """Everything below, but GRC's own cache."""
    found = {path.relative_to(folder) for path in folder.rglob("*")}
    return {path for path in found if path.parts[0] != ".cache"}


def companion_blocks(python: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [python, "-c", LIBRARY], capture_output=True, text=True, timeout=120, env=os.environ | environment, check=True
    )
    return done.stdout.splitlines()[-1].split()


def fake_python(folder: Path, output: str) -> str:
    program = folder / "python3"
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.gnuradio
def test_companion_finds_what_is_installed_and_nothing_is_left(gnuradio: str, home: Path) -> None:  # noqa: F811
    before = paths(home)
    installed = call("install", "--python", gnuradio)
    if "is for another version" in installed.stderr:
        pytest.skip(installed.stderr)
    assert installed.exit_code == 0, installed.stderr
    assert companion_blocks(gnuradio) == BLOCKS
    once = paths(home)
    assert call("install", "--python", gnuradio).exit_code == 0
    assert paths(home) == once
    description = home / ".grc_gnuradio" / "nflae_precoder.block.yml"
    assert str(description) in installed.stdout
    assert call("uninstall").exit_code == 0
    assert paths(home) == before
    assert companion_blocks(gnuradio) == []
    assert "not installed" in call("uninstall").stdout


@pytest.mark.gnuradio
def test_changed_and_foreign_files_are_kept(gnuradio: str, home: Path) -> None:  # noqa: F811
    description = home / ".grc_gnuradio" / "nflae_precoder.block.yml"
    description.parent.mkdir()
    description.write_text("someone else's")
    before = paths(home)
    refused = call("install", "--python", gnuradio)
    assert refused.exit_code == 1
    assert f"{description}: exists" in refused.stderr or "is for another version" in refused.stderr
    assert paths(home) == before
    assert description.read_text() == "someone else's"
    description.unlink()
    if call("install", "--python", gnuradio).exit_code == 0:
        installed = paths(home)
        description.write_text("changed")
        again = call("install", "--python", gnuradio)
        assert (again.exit_code, paths(home)) == (1, installed)  # nothing of the former installation is removed
        assert f"{description}: exists, of another program or changed" in again.stderr
        assert f"{description} (changed" in call("uninstall").stdout
        assert description.read_text() == "changed"
        assert paths(home) == before


@pytest.mark.gnuradio
def test_companion_finds_the_blocks_by_the_printed_paths(gnuradio: str) -> None:  # noqa: F811
    found = installation.find_gnuradio(gnuradio)
    folder = str(installation.block_files())
    assert companion_blocks(gnuradio, GRC_BLOCKS_PATH=folder) == BLOCKS
    if "msgspec" in found.missing:  # only this program's environment has it, with a NumPy of its own
        with pytest.raises(NflaeError, match="has a NumPy of its own; use `nflae gnuradio install`"):
            installation.shell_lines(found)
    found = installation.GnuRadio(found.python, "3.10.5", "3.11", "", found.blocks, None, ("matlab_io",))
    blocks, python = installation.shell_lines(found)
    shell = f'{blocks}\n{python}\nprintf %s "$GRC_BLOCKS_PATH|$PYTHONPATH"'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env={"PYTHONPATH": "/a"}, check=True)
    root = Path(installation.__file__).parents[4]
    assert done.stdout == f"{folder}|{root}:/a"


def test_a_missing_gnuradio_is_said_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    done = call("install")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "GNU Radio is not installed: no grcc on the path; get it by apt-get install gnuradio" in done.stderr
    done = call("install", "--python", str(home / "absent"))
    assert "absent: cannot be run" in done.stderr
    if subprocess.run([sys.executable, "-c", "import gnuradio"], capture_output=True, check=False).returncode:
        done = call("path", "--python", sys.executable)
        assert f"{sys.executable}: has no GNU Radio with GRC (ModuleNotFoundError" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_python_without_gnuradio_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nflae_bridge.live.gnuradio import blocks

    for name in [name for name in sys.modules if name.startswith("gnuradio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pmt", None)
    with pytest.raises(ModuleNotFoundError, match="Precoder requires GNU Radio's Python"):
        _ = blocks.Precoder
    with pytest.raises(AttributeError, match="no attribute 'Precoders'"):
        _ = blocks.Precoders


@pytest.mark.parametrize("output", ["", "nothing", "[]", "{}"])
def test_a_program_that_is_no_python_is_named(home: Path, output: str) -> None:
    python = fake_python(home, output)
    done = call("install", "--python", python)
    assert done.exit_code == 1
    assert done.stderr == f"nflae: error: {python}: is no Python; name GNU Radio's Python with --python\n"


@pytest.mark.parametrize("content", ['{"a', "[1]", '{"/a": 1}', "null"])
def test_a_damaged_list_is_named_and_nothing_removed(home: Path, content: str) -> None:
    record = home / ".local" / "share" / "nflae-bridge" / "gnuradio" / "installed.json"
    record.parent.mkdir(parents=True)
    record.write_text(content)
    done = call("uninstall")
    assert done.exit_code == 1
    assert f"{record}: is no list of installed files; remove {record.parent}, " in done.stderr
    assert done.stderr.count("\n") == 1
    assert record.read_text() == content


@pytest.mark.parametrize("version", ["3.8.2.0", "v3.11.0.0git-1-gab", "3.9.8.0"])
def test_another_version_is_refused_with_what_is_supported(home: Path, version: str) -> None:
    python = fake_python(home, f'{{"version": "{version}"}}')
    done = call("install", "--python", python)
    assert done.exit_code == 1
    assert f"has GNU Radio {version.removeprefix('v')}; the blocks are for 3.10, and `nflae stream`" in done.stderr


@pytest.mark.parametrize(
    ("site", "remedy"), [("", "reads no packages of the user"), ("S", "gr-nflae/bin/pip install FOLDER")]
)
def test_another_python_is_refused_with_the_remedy(home: Path, site: str, remedy: str) -> None:
    missing = '["nflae_bridge"]' if not site else '["msgspec"]'
    described = f'"python": "3.99", "tag": "cpython-399", "blocks": "{home}/b", "site": "{site}", "missing": {missing}'
    before = paths(home)
    python = fake_python(home, f'{{"version": "3.10.9.2", {described}}}')
    done = call("install", "--python", python)
    assert done.exit_code == 1
    assert remedy in done.stderr
    Path(python).unlink()
    assert paths(home) == before
