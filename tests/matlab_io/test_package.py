"""The package by itself: without the simulator and the product, and without the packages of the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matlab_io


def test_public_names() -> None:
    assert dir(matlab_io) == sorted(matlab_io.__all__)
    assert all(getattr(matlab_io, name) is not None for name in matlab_io.__all__)


def test_without_h5py_one_line_names_the_command() -> None:
    code = """
import sys
sys.modules["h5py"] = None
import matlab_io, matlab_io.result
try:
    matlab_io.open_channels
except matlab_io.extras.MissingPackageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "matlab_io.open_channels needs the extra 'engine' (h5py is not installed): " in done.stdout


def test_the_package_works_alone(tmp_path: Path) -> None:
    """Channels written and read, results written, with neither the simulator nor the product nor PyTorch."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("simulator", "nflae_bridge", "torch", "click", "zmq", "msgspec"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from matlab_io import ResultFile, inspect_file, open_channels, write_channels
from matlab_io.result import RESULT_ARRAYS
for version in ("6", "7", "7.3"):
    H = np.ones((2, 3, 8), np.complex64)
    write_channels("in.mat", [H], users=3, antennas=8, drops=2, version=version, extra={"power_dbw": 1000.0})
    with open_channels("in.mat") as file:
        assert (file.read(0, 2) == H).all() and file.scalars["power"] > 1e99
        sizes = {"antennas": 8, "users": 3, "drop_axes": file.drop_axes, "convention": file.convention}
        with ResultFile("out.mat", version=version, info={"scheme": "none"}, **sizes) as results:
            results.write(0, {entry.name: np.ones(entry.shape(2, 3, 8), entry.dtype) for entry in RESULT_ARRAYS})
    assert {variable.name for variable in inspect_file("out.mat")} > {entry.name for entry in RESULT_ARRAYS}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
