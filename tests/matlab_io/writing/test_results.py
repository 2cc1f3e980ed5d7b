"""Results and channels written, and writes that fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import MatFileError, ResultFile, open_channels, write_channels

Channels = npt.NDArray[np.complex64]
Make = Callable[..., Channels]
INFO = {"scheme": "zf", "model": "", "version": "0.1.0", "power": 1, "noise_power": 0.01, "layout": "nks"}


def results(precoder: Channels) -> dict[str, npt.NDArray[Any]]:
    """Distinct numbers for every field, for the drops of ``precoder``."""
    number = np.abs(precoder).sum(-1).astype(np.float64)
    fields = {name: number + i for i, name in enumerate(["power", "lambda", "near_field_score", "sinr", "rate"])}
    return {
        **fields,
        "precoder": precoder,
        "near_field": number > np.median(number),
        "sum_rate": number.sum(-1),
        "feasible": number[:, 0] > 15,
        "fallback": number[:, 0] > 18,
    }


def result_file(path: Path, version: str = "7", drop_axes: tuple[int, ...] = (10,), **options: Any) -> ResultFile:
    sizes = {"antennas": 16, "users": 3} | options.pop("sizes", {})
    return ResultFile(path, version=version, drop_axes=drop_axes, convention="hermitian", info=INFO, **sizes, **options)


def load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a result in MATLAB order, by scipy or h5py alone."""
    if not h5py.is_hdf5(path):
        return {k: v for k, v in scipy.io.loadmat(path).items() if isinstance(v, np.ndarray) and k != "nflae_info"}
    loaded = {}
    with h5py.File(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Dataset):
                raw = item[()].T
                loaded[name] = raw["real"] + 1j * raw["imag"] if raw.dtype.names else raw
    return loaded


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
@pytest.mark.parametrize("drop_axes", [(), (1,), (10,), (5, 2), (1, 4), (4, 1)])
def test_results_keep_the_inputs_axes(tmp_path: Path, version: str, drop_axes: tuple[int, ...], channels: Make) -> None:
    drops = int(np.prod(drop_axes))
    wanted = results(channels(drops))
    with result_file(tmp_path / "r.mat", version, drop_axes) as file:
        for start in range(0, drops, 3):
            file.write(start, {name: values[start : start + 3] for name, values in wanted.items()})
        assert not (tmp_path / "r.mat").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.mat"]
    loaded = load(tmp_path / "r.mat")
    for name, values in wanted.items():
        lead = {"precoder": (16, 3), "sum_rate": (1,), "feasible": (1,), "fallback": (1,)}.get(name, (3,))
        shape = (*lead, *drop_axes) + (1,) * (2 - len(lead) - len(drop_axes))
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        assert loaded[name].shape == shape
        assert np.array_equal(loaded[name], values.T.reshape(shape, order="F"))
    assert {loaded[name].dtype for name in ("power", "lambda", "near_field_score", "sinr", "rate", "sum_rate")} == {
        np.dtype(np.float64)
    }
    assert loaded["precoder"].dtype == np.complex64


def test_hdf5storage_reads_a_v73_result_as_matlab_would(tmp_path: Path, channels: Make) -> None:
    reader = pytest.importorskip("hdf5storage", reason="an independent v7.3 reader")
    wanted = results(channels(10))
    with result_file(tmp_path / "r.mat", "7.3", (5, 2)) as file:
        file.write(0, wanted)
    loaded = reader.loadmat(str(tmp_path / "r.mat"))
    assert loaded["precoder"].dtype == np.complex64
    assert np.array_equal(loaded["precoder"], wanted["precoder"].T.reshape((16, 3, 5, 2), order="F"))
    assert np.array_equal(loaded["rate"], wanted["rate"].T.reshape((3, 5, 2), order="F"))
    for name in ("near_field", "feasible", "fallback"):
        assert loaded[name].dtype == bool
    assert np.array_equal(loaded["feasible"], wanted["feasible"].reshape((1, 5, 2), order="F"))
    info = loaded["nflae_info"]
    assert list(info.dtype.names) == list(INFO)  # the order of the fields is kept
    assert info["scheme"].item() == "zf"
    assert info["noise_power"].item() == 0.01
    assert info["power"].dtype == np.float64


def test_channels_hdf5storage_wrote_are_read(tmp_path: Path, channels: Make) -> None:
    writer = pytest.importorskip("hdf5storage", reason="an independent v7.3 writer")
    h = channels(4, 2, 8)
    content = {"chan": {"H": np.asfortranarray(h.T), "power": np.array([[2.0]])}, "name": "uav"}
    writer.savemat(str(tmp_path / "c.mat"), content, format="7.3", store_python_metadata=False)
    with open_channels(tmp_path / "c.mat", layout="nks") as file:
        assert (file.version, file.variable, file.scalars) == ("7.3", "chan.H", {"power": 2.0})
        assert np.array_equal(file.read(0, 4), h)


def test_the_v73_header_is_matlabs(tmp_path: Path, channels: Make) -> None:
    write_channels(tmp_path / "c.mat", [channels()], users=3, antennas=16, drops=10, version="7.3")
    start = (tmp_path / "c.mat").read_bytes()[:520]
    assert start.startswith(b"MATLAB 7.3 MAT-file, Platform: ")
    assert start[116:128] == bytes(8) + b"\x00\x02IM"
    assert start[512:] == b"\x89HDF\r\n\x1a\n"


def test_a_v73_file_depends_on_no_clock(tmp_path: Path, channels: Make) -> None:
    path = tmp_path / "c.mat"
    write_channels(path, [channels()], users=3, antennas=16, drops=10, version="7.3")
    assert b"Created on: Thu Jan  1 00:00:00 1970" in path.read_bytes()[:116]
    with h5py.File(path) as file:
        stored = [file[name] for name in file]
        assert {h5py.h5g.get_objinfo(each.id).mtime for each in stored if isinstance(each, h5py.Dataset)} == {0}


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_written_channels_are_read_back_unasked(tmp_path: Path, version: str, convention: str, channels: Make) -> None:
    h = channels()
    extra = {"power": 2, "noise_dbw": -20.0, "site": {"height": 15.0, "x": np.ones((2, 3, 2))}, "name": "uav"}
    write_channels(
        tmp_path / "c.mat",
        [h[:4], h[4:]],
        users=3,
        antennas=16,
        drops=10,
        version=version,
        convention=convention,
        extra=extra,
    )
    with open_channels(tmp_path / "c.mat") as file:
        assert (file.version, file.convention) == (version, convention)
        assert np.array_equal(file.read(0, 10), h)
        assert file.scalars == pytest.approx({"power": 2.0, "noise_power": 0.01})


def test_version_4_holds_one_drop(tmp_path: Path, channels: Make) -> None:
    h = channels(1)
    sizes = {"users": 3, "antennas": 16, "version": "4"}
    write_channels(tmp_path / "c.mat", [h], drops=1, extra={"power": 2.0, "name": "uav"}, **sizes)
    with open_channels(tmp_path / "c.mat") as file:
        assert (file.version, file.scalars) == ("4", {"power": 2.0})
        assert np.array_equal(file.read(0, 1), h)
    with pytest.raises(MatFileError, match="version 4 holds matrices only, H is 16 x 3 x 2; write version 7"):
        write_channels(tmp_path / "d.mat", [], drops=2, **sizes)
    with pytest.raises(MatFileError, match="version 4 cannot hold site"):
        write_channels(tmp_path / "d.mat", [], drops=1, extra={"site": {}}, **sizes)
    with result_file(tmp_path / "r.mat", "4") as file:
        assert file.version == "7"
        assert "version 4 has no structs" in file.notes[0]
        file.write(0, results(channels()))
    assert load(tmp_path / "r.mat")["precoder"].shape == (16, 3, 10)


def test_blocks_and_results_of_another_shape_are_refused(tmp_path: Path, channels: Make) -> None:
    for blocks in ([channels(4)], [channels(), channels()], [channels(10, 3, 8)]):
        with pytest.raises((ValueError, MatFileError)):
            write_channels(tmp_path / "c.mat", blocks, users=3, antennas=16, drops=10)
    good = results(channels())
    for wrong in (
        {name: values for name, values in good.items() if name != "rate"},
        good | {"rate": good["rate"].T},
        good | {"more": good["rate"]},
        good | {"sum_rate": good["rate"]},
        {name: np.concatenate([values, values]) for name, values in good.items()},
    ):
        with pytest.raises(ValueError, match=r"results|shape|drops"), result_file(tmp_path / "r.mat") as file:
            file.write(0, wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["7", "7.3"])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_leaves_the_old_file(
    tmp_path: Path, version: str, kind: type[BaseException], channels: Make
) -> None:
    (tmp_path / "r.mat").write_bytes(b"old")
    with pytest.raises(kind), result_file(tmp_path / "r.mat", version) as file:  # noqa: PT012
        file.write(0, {name: values[:5] for name, values in results(channels()).items()})
        raise kind
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.mat"]
    assert (tmp_path / "r.mat").read_bytes() == b"old"


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_missing_drops_are_not_passed_off_as_results(tmp_path: Path, version: str, channels: Make) -> None:
    first = {name: values[:5] for name, values in results(channels()).items()}
    with (
        pytest.raises(MatFileError, match="only 5 of 10 drops"),
        result_file(tmp_path / "r.mat", version) as file,
    ):
        file.write(0, first)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_above_2_gib_is_refused_before_the_work(tmp_path: Path) -> None:
    sizes = {"antennas": 1024, "users": 16}
    with pytest.raises(MatFileError, match=r"precoder \(1024 x 16 x 20000\) would take 2\.4 GiB.*version 7\.3"):
        result_file(tmp_path / "r.mat", "7", (20000,), sizes=sizes)
    result_file(tmp_path / "r.mat", "7.3", (20000,), sizes=sizes)
    with pytest.raises(MatFileError, match=r"H \(1024 x 16 x 20000\)"):
        write_channels(tmp_path / "c.mat", iter([]), drops=20000, **sizes)
    assert list(tmp_path.iterdir()) == []


ON_A_FULL_DISK = """
    import sys, numpy as np
    from matlab_io import MatFileError, ResultFile
    path, version, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if limit:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    rng = np.random.default_rng(0)
    k, one = rng.random((1000, 8)), rng.random(1000)
    try:
        with ResultFile(path, version=version, antennas=256, users=8, drop_axes=(1000,),
                        convention="hermitian", info={"scheme": "zf"}) as file:
            file.write(0, {"precoder": (1 + 1j) * rng.random((1000, 8, 256)), "power": k, "lambda": k,
                           "sinr": k, "near_field_score": k, "near_field": k > 0.5, "rate": k,
                           "sum_rate": one, "feasible": one > 0, "fallback": one > 0})
    except MatFileError as error:
        print(error)
"""


def run_out_of_space(path: Path, version: str, limit: int) -> str:
    script = textwrap.dedent(ON_A_FULL_DISK)
    command = [sys.executable, "-c", script, str(path), version, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize("version", ["7", "7.3"])
@pytest.mark.parametrize("limit", [100, 5000, 1 << 20])
def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path, version: str, limit: int) -> None:
    (tmp_path / "r.mat").write_bytes(b"old")
    said = run_out_of_space(tmp_path / "r.mat", version, limit)
    assert said == f"{tmp_path}/r.mat: cannot be written: file too large; free some space or write elsewhere\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.mat"]
    assert (tmp_path / "r.mat").read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            yield folder
            subprocess.run(["umount", str(folder)], check=True)
            return
    pytest.skip("may not mount a small file system")


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_a_full_disk_is_one_line(small_disk: Path, version: str) -> None:
    said = run_out_of_space(small_disk / "r.mat", version, 0)
    assert "no space left on device; free some space or write elsewhere" in said
    assert said.count("\n") == 1
    assert list(small_disk.iterdir()) == []


def test_permissions_are_those_of_the_file_replaced(tmp_path: Path, channels: Make) -> None:
    for name in ("old.mat", "new.mat"):
        if name == "old.mat":
            (tmp_path / name).touch()
            (tmp_path / name).chmod(0o640)
        with result_file(tmp_path / name) as file:
            file.write(0, results(channels()))
    mask = os.umask(0)
    os.umask(mask)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("old.mat", "new.mat")]
    assert modes == [0o640, 0o666 & ~mask]
