"""Names of files and variables that are not in UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from matlab_io import MatFileError, inspect_file
from tests.channel_files import WriteMat, random_channels


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_files_whose_names_are_not_utf_8_are_read_and_written(
    write_mat: WriteMat, tmp_path: Path, version: str
) -> None:
    source, output = os.fsencode(tmp_path) + b"/in\xff.mat", os.fsencode(tmp_path) + b"/out\xfe.mat"
    os.rename(write_mat(random_channels(), layout="nks"), source)
    command = [sys.executable, "-m", "nflae_bridge.cli", "precode", source, "-o", output, "--scheme", "rzf"]
    done = subprocess.run(
        [*command, "--mat-version", version],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.path.exists(output)
    assert rb"out\udcfe.mat" in done.stdout


def test_a_variable_whose_name_is_not_utf_8_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file.create_dataset(b"H\xff", data=np.zeros((2, 2)))
    with pytest.raises(MatFileError, match=r"x\.mat: .*H\\xff.* is not in UTF-8"):
        inspect_file(tmp_path / "x.mat")
