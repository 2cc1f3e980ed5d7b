"""Every code block of the README and docs/ runs: bash, python and octave blocks of a page, in order, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    for language, code in blocks(page):
        if language == "octave" and not shutil.which("octave-cli"):
            assert not os.environ.get("CI"), "CI is set and GNU Octave is missing"
            pytest.skip("GNU Octave is not installed: apt-get install octave")
        done = subprocess.run(
            [*commands[language], code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{page.name}, {language} block:\n{code}\n{done.stdout}{done.stderr}"


def test_pages_have_blocks() -> None:
    assert blocks(ROOT / "README.md"), "the README shows no code that runs"
