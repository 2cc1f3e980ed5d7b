"""Arrays in one piece are read past HDF5, as HDF5 reads them; all others through it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from matlab_io import open_channels
from matlab_io.containers.contents import list_variables
from matlab_io.reading.layout import parse
from matlab_io.reading.storage import open_storage

PARTS = np.random.default_rng(1).normal(size=(2, 7, 3, 8))
COMPOUND = np.dtype([("real", "<f8"), ("imag", "<f8")])
STORED = {
    "double": (COMPOUND, {}, True),
    "single": (np.dtype([("real", "<f4"), ("imag", "<f4")]), {}, True),
    "complex": (np.dtype("<c8"), {}, True),
    "swapped": (np.dtype([("real", ">f8"), ("imag", ">f8")]), {}, True),
    "padded": (np.dtype({"names": ["real", "imag"], "formats": ["<f4", "<f4"], "offsets": [0, 8]}), {}, True),
    "chunked": (COMPOUND, {"chunks": (2, 3, 8)}, False),
}


def write(path: Path, kind: str) -> None:
    dtype, options, _ = STORED[kind]
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("H", PARTS.shape[1:], dtype, **options)
        values = np.empty(dataset.shape, dtype)
        if dtype.names:
            values["real"], values["imag"] = PARTS
        else:
            values[...] = PARTS[0] + 1j * PARTS[1]
        dataset[...] = values
        dataset.attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("layout", ["nks", "skn"])
def test_the_numbers_are_those_of_hdf5(tmp_path: Path, kind: str, layout: str) -> None:
    path = tmp_path / "H.mat"
    write(path, kind)
    expected = PARTS[0] + 1j * PARTS[1]
    if layout == "skn":  # drops are not slowest, and users precede antennas: read as y = H x
        expected = expected.conj().transpose(2, 1, 0)
    with open_channels(path, layout=layout) as file:
        assert (file._array._array._offset is not None) == STORED[kind][2]
        for start, stop in ((0, 7), (2, 5), (6, 7), (3, 3)):
            np.testing.assert_array_equal(file.read(start, stop), expected[start:stop].astype(np.complex64))


def test_a_file_that_ends_within_the_array(tmp_path: Path) -> None:
    path = tmp_path / "H.mat"
    write(path, "double")
    (variable,) = list_variables(path, "7.3")
    array, _ = open_storage(path, "7.3", variable, []).array(variable, parse("nks", variable.shape))
    with closing(array):
        os.truncate(path, path.stat().st_size - PARTS[:, -1].nbytes // 2)
        array.read((slice(0, 8), slice(0, 3), slice(0, 6)))
        with pytest.raises(EOFError, match="the file ends within the array"):
            array.read((slice(0, 8), slice(0, 3), slice(5, 7)))
