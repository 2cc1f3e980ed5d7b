"""Fixtures: GNU Octave as a second reader and writer of ``.mat`` files, and channels to save."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Channels = npt.NDArray[np.complex64]


@pytest.fixture(scope="session")
def octave() -> Callable[[str, Path], str]:
    """Runs an Octave script in a folder and returns what it printed; an error in it fails the test."""
    program = shutil.which("octave-cli")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("octave-cli is not installed, and CI must have it")
        pytest.skip("octave-cli is not installed")

    def run(script: str, folder: Path) -> str:
        done = subprocess.run(
            [program, "--no-gui", "-q", "--no-history", "--no-init-file", "--eval", script],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def channels() -> Callable[..., Channels]:
    """Makes random channels (drops, users, antennas) complex64."""

    def make(drops: int = 10, users: int = 3, antennas: int = 16, seed: int = 0) -> Channels:
        rng = np.random.default_rng(seed)
        shape = (drops, users, antennas)
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    return make


@pytest.fixture(scope="session")
def as_saved() -> Callable[[str, tuple[int, ...], npt.NDArray[Any]], npt.NDArray[Any]]:
    """Lays (drops, users, antennas) out as a MATLAB-order array of the given axes and shape, element by element."""

    def lay_out(axes: str, shape: tuple[int, ...], drops: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = np.empty(shape, drops.dtype)
        extents = [size for letter, size in zip(axes, shape, strict=True) if letter in "sf"]
        for at in np.ndindex(*shape):
            index = dict(zip(axes, at, strict=True))
            drop, stride = 0, 1
            for position, extent in zip((i for a, i in zip(axes, at, strict=True) if a in "sf"), extents, strict=True):
                drop, stride = drop + position * stride, stride * extent
            out[at] = drops[drop, index.get("k", 0), index["n"]]
        return out

    return lay_out
