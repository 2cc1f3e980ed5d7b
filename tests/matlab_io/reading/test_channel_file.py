"""Channels from files that scipy, h5py and this package wrote."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matlab_io import AmbiguousLayout, ChannelFile, MatFileError, open_channels

Channels = npt.NDArray[np.complex64]
Make = Callable[..., Channels]
PLAIN = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save_hdf5(path: Path, array: npt.NDArray[Any], **options: Any) -> None:
    """As MATLAB's -v7.3 does: axes in reverse, complex numbers as a compound of real and imag."""
    part = np.float32 if array.dtype == np.complex64 else np.float64
    stored = np.empty(array.T.shape, [("real", part), ("imag", part)])
    stored["real"], stored["imag"] = array.T.real, array.T.imag
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_dataset("H", data=stored, **options)
        data.attrs["MATLAB_class"] = np.bytes_("single" if part is np.float32 else "double")


def save(path: Path, version: str, array: npt.NDArray[Any]) -> None:
    if version == "7.3":
        save_hdf5(path, array)
    else:
        scipy.io.savemat(path, {"H": array}, format="4" if version == "4" else "5", do_compression=version == "7")


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
@pytest.mark.parametrize(
    ("axes", "shape", "drop_axes"),
    [
        ("nks", (16, 3, 6), (6,)),
        ("kns", (3, 16, 6), (6,)),
        ("skn", (6, 3, 16), (6,)),
        ("snk", (6, 16, 3), (6,)),
        ("nsk", (16, 6, 3), (6,)),
        ("nkfs", (16, 3, 2, 3), (2, 3)),
        ("nksf", (16, 3, 2, 3), (2, 3)),
        ("sfkn", (2, 3, 3, 16), (2, 3)),
        ("fnsk", (2, 16, 3, 3), (2, 3)),
        ("1nks", (1, 16, 3, 6), (6,)),
        ("n1s", (16, 1, 6), (6,)),
        ("ns", (16, 6), (6,)),
        ("kn", (3, 16), ()),
        ("nks", (16, 3), (1,)),
        ("n", (16, 1), ()),
    ],
)
def test_every_layout_is_read_alike_from_every_version(
    tmp_path: Path,
    version: str,
    axes: str,
    shape: tuple[int, ...],
    drop_axes: tuple[int, ...],
    channels: Make,
    as_saved: Callable[..., npt.NDArray[Any]],
) -> None:
    drops, users = int(np.prod(drop_axes)), 3 if "k" in axes else 1
    wanted = channels(drops, users, 16)
    padded = shape + (1,) * (len(axes) - len(shape))
    array = as_saved(axes, padded[: len(axes)], wanted).reshape(shape)
    save(tmp_path / "c.mat", version, array)
    with open_channels(tmp_path / "c.mat", layout=axes, convention="hermitian") as file:
        assert (file.version, file.layout, file.drop_axes) == (version, axes, drop_axes)
        assert (file.antennas, file.users, file.drops) == (16, users, drops)
        whole = file.read(0, drops)
        assert whole.dtype == np.complex64
        assert whole.flags.c_contiguous
        assert np.array_equal(whole, wanted)
        assert all(np.array_equal(file.read(i, i + 1), wanted[i : i + 1]) for i in range(drops))
        assert file.read(0, 0).shape == (0, users, 16)


@pytest.mark.parametrize("version", ["4", "7", "7.3"])
def test_rows_are_read_as_direct_and_conjugated(tmp_path: Path, version: str, channels: Make) -> None:
    wanted = channels(1, 3, 16)
    save(tmp_path / "c.mat", version, wanted[0].conj())  # K x N, row k = h_k^H
    with open_channels(tmp_path / "c.mat") as file:
        assert (file.version, file.layout, file.convention) == (version, "kn", "direct")
        assert np.array_equal(file.read(0, 1), wanted)
        assert file.notes == [
            "H read as 16 antennas x 3 users x 1 drop (layout kn, from the shape)",
            "users in rows: read as y = H x (direct): y_k = H(k,:) * x",
        ]
    with open_channels(tmp_path / "c.mat", convention="hermitian") as file:
        assert np.array_equal(file.read(0, 1), wanted.conj())
        assert file.notes[1] == "users in rows: read as y = H' x (hermitian, as given): y_k = conj(H(k,:)) * x"


def test_what_was_read_is_said(tmp_path: Path, channels: Make) -> None:
    save(tmp_path / "c.mat", "7", channels(2, 3, 16).T)
    with open_channels(tmp_path / "c.mat", layout="nks") as file:
        assert file.notes[0] == "H read as 16 antennas x 3 users x 2 drops (layout nks, as given)"
    save(tmp_path / "c.mat", "7", channels(16, 3, 6))  # a Python array (drops, users, antennas), saved as it is
    listed = "--layout skn = 6 antennas x 3 users x 16 drops, users in rows, y = H x"
    with pytest.raises(AmbiguousLayout, match=listed):
        open_channels(tmp_path / "c.mat")
    with open_channels(tmp_path / "c.mat", layout="skn") as file:
        assert file.notes[0] == "H read as 6 antennas x 3 users x 16 drops (layout skn, as given)"


@given(st.data())
@PLAIN
def test_reading_in_blocks_is_reading_whole(tmp_path: Path, data: st.DataObject) -> None:
    axes = data.draw(st.permutations("nkfs").map("".join))
    shape = tuple(data.draw(st.integers(1, 5)) for _ in axes)
    chunks = data.draw(st.one_of(st.none(), st.tuples(*(st.integers(1, size) for size in reversed(shape)))))
    array = np.random.default_rng(0).standard_normal(shape) * (1 + 1j)
    save_hdf5(tmp_path / "c.mat", array, chunks=chunks, compression="gzip" if chunks else None)
    with open_channels(tmp_path / "c.mat", layout=axes) as file:
        whole = file.read(0, file.drops)
        cuts = sorted(data.draw(st.sets(st.integers(0, file.drops), max_size=5)) | {0, file.drops})
        blocks = [file.read(start, stop) for start, stop in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(blocks), whole)


def test_a_struct_field_and_the_scalars_beside_it(tmp_path: Path, channels: Make) -> None:
    h = channels(4, 2, 8)
    content = {"power": 3.0, "chan": {"info": {"H": h.T}, "noise_power": 0.5, "name": "uav"}}
    scipy.io.savemat(tmp_path / "c.mat", content, do_compression=True)
    with open_channels(tmp_path / "c.mat", layout="nks") as file:
        assert file.variable == "chan.info.H"
        assert np.array_equal(file.read(0, 4), h)
        assert file.scalars == {"power": 3.0, "noise_power": 0.5}
    content = {"power": 3.0, "chan": {"H": h.T, "noise_power_dbw": -10, "power": np.uint8(5)}}
    scipy.io.savemat(tmp_path / "c.mat", content)
    with open_channels(tmp_path / "c.mat", variable="chan.H", layout="nks") as file:
        assert file.scalars == pytest.approx({"power": 5.0, "noise_power": 0.1})


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_whole_numbers_are_read(tmp_path: Path, version: str) -> None:
    array = np.array([[1 + 2j], [3 - 4j]])
    save(tmp_path / "c.mat", version, array)
    with open_channels(tmp_path / "c.mat") as file:
        assert np.array_equal(file.read(0, 1)[0, 0], array[:, 0])


def test_real_and_integer_arrays_need_leave(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"H": np.arange(8, dtype=np.int16).reshape(4, 2)})
    with pytest.raises(MatFileError, match=r"H \(4 x 2 int16\) is real.*--allow-real"):
        open_channels(tmp_path / "c.mat")
    with open_channels(tmp_path / "c.mat", allow_real=True) as file:
        assert np.array_equal(file.read(0, 1), np.arange(8).reshape(1, 4, 2).transpose(0, 2, 1) + 0j)


@pytest.mark.parametrize("names", [("r", "i"), ("real", "imag")])
def test_other_peoples_hdf5_is_read_in_row_major_order(tmp_path: Path, names: tuple[str, str], channels: Make) -> None:
    h = channels(4, 2, 8)
    stored = np.empty(h.shape, [(name, np.float32) for name in names])
    stored[names[0]], stored[names[1]] = h.real, h.imag
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["chan/H"] = stored
        file["native"] = h
    for variable in ("chan.H", "native"):
        with pytest.raises(
            MatFileError, match=r"row-major order \(4 x 2 x 8.*likely skn = 8 antennas x 2 users.*--conv"
        ):
            open_channels(tmp_path / "c.h5", variable=variable)
        with pytest.raises(MatFileError, match=r"states no convention; pass --convention hermitian .*direct"):
            open_channels(tmp_path / "c.h5", variable=variable, layout="skn")
        for convention, wanted in (("hermitian", h), ("direct", h.conj())):
            options = {"variable": variable, "layout": "skn", "convention": convention}
            with open_channels(tmp_path / "c.h5", **options) as channel:
                assert channel.layout == "skn"
                assert np.array_equal(channel.read(0, 4), wanted)


@pytest.mark.parametrize(
    "kind",
    [
        np.dtype([("real", "<f8"), ("imag", "<f8")]),
        np.dtype([("real", ">f4"), ("imag", ">f4")]),
        np.dtype([("imag", "<f4"), ("real", "<f4")]),
        np.dtype({"names": ["real", "imag"], "formats": ["<f4", "<f4"], "offsets": [0, 8], "itemsize": 16}),
    ],
    ids=["double", "the other byte order", "imaginary part first", "with gaps"],
)
def test_complex_numbers_may_lie_in_the_file_in_any_way(tmp_path: Path, kind: np.dtype[Any], channels: Make) -> None:
    h = channels(5, 2, 8)
    stored = np.zeros(h.shape, kind)
    stored["real"], stored["imag"] = h.real, h.imag
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["H"] = stored
    with open_channels(tmp_path / "c.h5", layout="skn", convention="hermitian") as channel:
        read = channel.read(1, 4)
        assert read.dtype == np.complex64
        assert read.flags.c_contiguous
        assert read.flags.writeable
        assert np.array_equal(read, h[1:4])
        read[:] = 0
        assert np.array_equal(channel.read(0, 5), h)


def test_a_layout_that_does_not_fit_names_file_and_variable(tmp_path: Path, channels: Make) -> None:
    save(tmp_path / "c.mat", "7", channels().T)
    with pytest.raises(MatFileError, match=r"c\.mat: H: layout 'nk' names 2 axes but the array is 16 x 3 x 10"):
        open_channels(tmp_path / "c.mat", layout="nk")
    with pytest.raises(ValueError, match="convention"):
        open_channels(tmp_path / "c.mat", convention="other")


def test_single_overflow_gives_infinity_without_a_warning(tmp_path: Path) -> None:
    save(tmp_path / "c.mat", "7", np.array([[1e300 + 1j], [1]]))
    with open_channels(tmp_path / "c.mat") as file:
        assert np.isinf(file.read(0, 1)[0, 0, 0])


def test_drops_that_do_not_exist_and_a_closed_file(tmp_path: Path, channels: Make) -> None:
    save(tmp_path / "c.mat", "7.3", channels().T)
    with open_channels(tmp_path / "c.mat", layout="nks") as file:
        for start, stop in [(-1, 2), (3, 2), (0, 11)]:
            with pytest.raises(IndexError):
                file.read(start, stop)
    assert isinstance(file, ChannelFile)
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
