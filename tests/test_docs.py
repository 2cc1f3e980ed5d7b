"""Every code block of the README and docs/ runs: bash, python and octave blocks of a page, in order, in one folder.

A bash block that begins with ``nflae serve`` or ``nflae stream`` runs in the background until its page ends, and has
to leave as it should when it is told to.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIVE = ("nflae serve", "nflae stream")
BLOCK = re.compile(r"^```(bash|python|octave)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OCTAVE_PATH": str(ROOT / "matlab_io" / "matlab"),
        "OMP_NUM_THREADS": "1",
    }
    commands = {
        "bash": ["bash", "-euo", "pipefail", "-c"],
        "python": [sys.executable, "-c"],
        "octave": ["octave-cli", "--no-gui", "-q", "--no-history", "--eval"],
    }
    with ExitStack() as running:
        for language, code in blocks(page):
            if language == "octave" and not shutil.which("octave-cli"):
                assert not os.environ.get("CI"), "CI is set and GNU Octave is missing"
                pytest.skip("GNU Octave is not installed: apt-get install octave")
            command = [*commands[language], code]
            if code.startswith(LIVE):
                # exec: the signal that ends it must reach nflae, not the shell
                running.enter_context(in_background([*command[:-1], f"exec {code}"], tmp_path, environment))
                continue
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{page.name}, {language} block:\n{code}\n{done.stdout}{done.stderr}"


@contextmanager
def in_background(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A live program, from its first event until after the block, when SIGTERM must end it with exit status 0."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if "event=" in line:
            break
    reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        assert process.poll() is None, f"{command[-1]} left at once: {log}"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, f"{command[-1]}: {log}"
        reader.join(10)
        process.stderr.close()


def test_pages_have_blocks() -> None:
    assert blocks(ROOT / "README.md"), "the README shows no code that runs"
