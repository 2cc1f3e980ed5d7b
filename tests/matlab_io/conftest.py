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
            timeout=180,
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
        for at in np.ndindex(*shape):
            index = []
            for letters in ("sf", "k", "n"):
                linear, stride = 0, 1
                for letter, position, extent in zip(axes, at, shape, strict=True):
                    if letter in letters:
                        linear, stride = linear + position * stride, stride * extent
                index.append(linear)
            out[at] = drops[tuple(index)]
        return out

    return lay_out
