"""The notebook runs from its first to its last cell, at a small size, and shows what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.warm_python import warm_nflae

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "examples" / "sionna_umi.ipynb"
ROW = re.compile(r"^ *(-?\d+)  (RZF|nflae) +([\d.]+) +([\d.]+) +([\d.e+-]+) +(\d+)%$", re.MULTILINE)


def cells(kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def shown() -> str:
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


@pytest.mark.slow
def test_the_notebook_runs_at_a_small_size(tmp_path: Path) -> None:
    pytest.importorskip("sionna")
    script = "import matplotlib\nmatplotlib.use('agg')\n"
    for cell in cells("code"):
        script += "".join(cell["source"]) + "\n"
        if "parameters" in cell["metadata"].get("tags", ()):
            script += "drops, users, snrs_db = 2, 6, (5,)\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([str(warm_nflae(tmp_path)), "--python", script], **run)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    rzf, ours = ROW.findall(done.stdout)
    assert (rzf[:2], ours[:2]) == (("5", "RZF"), ("5", "nflae"))
    assert 10 < float(rzf[2]) < float(ours[2]) < 60
    for row in (rzf, ours):
        assert 0 < float(row[3]) <= float(row[2])  # bits of error-free blocks, below the spectral efficiency
        assert float(row[4]) < 0.1


def test_the_notebook_shows_a_table_and_a_picture_with_a_gain_at_every_snr() -> None:
    rows = ROW.findall(shown())
    assert len(rows) == 8
    for rzf, ours in zip(rows[::2], rows[1::2], strict=True):
        assert rzf[0] == ours[0]
        assert float(ours[2]) > float(rzf[2])
    pictures = [o["data"] for cell in cells("code") for o in cell["outputs"] if o["output_type"] == "display_data"]
    assert [each.startswith("iVBOR") for data in pictures for name, each in data.items() if name == "image/png"] == [
        True
    ]


def test_figures_in_the_text_are_those_of_the_table() -> None:
    rows = {(snr, name): (se, goodput) for snr, name, se, goodput, _, _ in ROW.findall(shown())}
    text = "".join(cells("markdown")[-1]["source"])
    stated = re.search(r"At 5 dB ([\d.]+) against ([\d.]+) bps/Hz .* ([\d.]+) against\s+(\d+\.\d+)", text, re.DOTALL)
    assert stated is not None
    assert stated.groups() == (rows["5", "nflae"][0], rows["5", "RZF"][0], rows["5", "nflae"][1], rows["5", "RZF"][1])
