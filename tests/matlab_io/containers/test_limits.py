"""Bounds of what a small file may cost, and the option that raises them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

import matlab_io
from matlab_io import MatFileError, find_arrays, open_channels
from matlab_io.containers import limits
from matlab_io.containers.limits import Allowance, max_inflate
from tests.channel_files import Run


@pytest.fixture
def alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A v7 file of channels that decompresses to 100 times its size, with no size allowed to all files."""
    monkeypatch.setattr(limits, "_ANY_FILE_BYTES", 0)
    path = tmp_path / "in.mat"
    channels = np.full((64, 4, 200), 1 + 1j, np.complex64)
    scipy.io.savemat(path, {"H": channels, "layout": "nks"}, do_compression=True)
    return path


def test_what_decompresses_to_more_is_refused_unless_allowed(alike: Path) -> None:
    ratio = 64 * 4 * 200 * 8 / alike.stat().st_size
    assert 150 < ratio < 900
    for read in (lambda: open_channels(alike), lambda: find_arrays(alike, lambda name: name == "H")):
        with pytest.raises(MatFileError, match=r"decompresses to more than .* --max-inflate above 100"):
            read()
        with max_inflate(0.9 * ratio), pytest.raises(MatFileError, match="decompresses"):
            read()
        with max_inflate(1.1 * ratio):
            read()
    with pytest.raises(MatFileError, match="decompresses"):
        open_channels(alike)
    assert matlab_io.max_inflate is max_inflate


def test_the_option_allows_more(nflae: Run, alike: Path) -> None:
    command = ("precode", alike, "-o", alike.with_name("out.mat"), "--scheme", "rzf")
    done = nflae(*command)
    assert done.exit_code == 1
    assert "give a --max-inflate above 100" in done.stderr
    assert nflae(*command, "--max-inflate", 0).exit_code == 2
    allowed = nflae(*command, "--max-inflate", 1000)
    assert allowed.exit_code == 0, allowed.output


def test_a_file_of_any_size_has_64_mib_and_some_thousand_fields(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 16)
    allowance = Allowance(path)
    allowance.inflate(64 << 20)
    with pytest.raises(MatFileError):
        allowance.inflate(1)
    for _ in range(30_002):
        allowance.item("name")
    with pytest.raises(MatFileError, match="30002 fields"):
        allowance.item("name")
    slow = Allowance(path, item_cost=16)
    for _ in range(1_875):
        slow.item("name")
    with pytest.raises(MatFileError, match="1875 fields"):
        slow.item("name")
    long = Allowance(path)
    for _ in range(300):
        long.item("x" * 256 * 99)
    with pytest.raises(MatFileError):
        long.item("x" * 256 * 99)
