"""Files that another program writes while they are read: refused, never a mixture of old and new channels."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from matlab_io import ChannelFile, MatFileError, open_channels
from matlab_io.reading import channel_file

DROPS = 6
CHANGED = r"in\.\w+: changed while it was read; start again once it is written completely$"


def save(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = (rng.normal(size=(DROPS, 3, 8)) + 1j * rng.normal(size=(DROPS, 3, 8))).astype(np.complex64)
    if path.suffix == ".npy":
        np.save(path, channels.T)
    elif path.suffix == ".raw":
        channels.tofile(path)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            stored = channels.view([("real", np.float32), ("imag", np.float32)]).reshape(channels.shape)
            chunks = (2, 3, 8) if path.stem.endswith("chunked_in") else None
            data = file.create_dataset("H", data=stored, chunks=chunks, track_times=False)
            data.attrs["MATLAB_class"] = np.bytes_("single")
    os.utime(path, ns=(0, 0))


def opened(path: Path) -> ChannelFile:
    return open_channels(
        path, layout="nks", convention="hermitian", shape=(8, 3, DROPS) if path.suffix == ".raw" else None
    )


@pytest.mark.parametrize("name", ["in.mat", "chunked_in.mat", "in.npy", "in.raw"])
def test_a_file_overwritten_in_place_is_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, 0)
    save(tmp_path / f"other_{name}", 1)
    other = (tmp_path / f"other_{name}").read_bytes()
    with opened(tmp_path / name) as file:
        file.read(0, 2)
        os.utime(tmp_path / name, ns=(10**9, 0))  # the time of access alone
        file.read(2, 4)
        with (tmp_path / name).open("r+b") as target:
            target.write(other)
        with pytest.raises(MatFileError, match=CHANGED):
            file.read(4, 6)
    assert len(other) == (tmp_path / name).stat().st_size


def test_a_file_cut_short_meanwhile_is_changed_not_damaged(tmp_path: Path) -> None:
    save(tmp_path / "in.mat", 0)
    with opened(tmp_path / "in.mat") as file:
        os.truncate(tmp_path / "in.mat", 600)
        with pytest.raises(MatFileError, match=CHANGED):
            file.read(0, 2)


def test_a_file_replaced_under_its_name_is_read_to_its_end(tmp_path: Path) -> None:
    save(tmp_path / "in.mat", 0)
    save(tmp_path / "new.mat", 1)
    with opened(tmp_path / "in.mat") as file:
        expected = file.read(0, DROPS)
        os.replace(tmp_path / "new.mat", tmp_path / "in.mat")
        assert np.array_equal(file.read(0, DROPS), expected)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_changes_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    path, chosen = tmp_path / "in.npz", channel_file.choose_variable
    np.savez(path, H=np.ones((8, 3, DROPS), np.complex64))

    def choose(*arguments: object, **options: object) -> object:
        if replaced:
            np.savez(tmp_path / "new.npz", H=np.ones((8, 3, DROPS), np.complex64))
            os.replace(tmp_path / "new.npz", path)
        else:
            os.utime(path, ns=(0, 0))
        return chosen(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(channel_file, "choose_variable", choose)
    with pytest.raises(MatFileError, match=CHANGED):
        open_channels(path, layout="nks")


def test_a_closed_file_leaves_no_open_handle(tmp_path: Path) -> None:
    save(tmp_path / "in.npy", 0)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        opened(tmp_path / "in.npy").close()
        with pytest.raises(MatFileError):
            open_channels(tmp_path / "in.npy", layout="kkk")
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before
