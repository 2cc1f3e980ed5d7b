"""HDF5 files whose heaps would keep the library in an endless loop."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from matlab_io import MatFileError, find_arrays, open_channels
from matlab_io.containers.hdf5_heaps import check_heaps

HEAD = 16  # bytes of the heap's own header, and of an object's


def write_struct(path: Path, libver: str = "earliest") -> int:
    """Channels beside an attribute of variable length, as MATLAB stores field names; return the heap's place."""
    with h5py.File(path, "w", userblock_size=512, libver=libver) as file:
        pair = np.dtype([("real", "<f8"), ("imag", "<f8")])
        file.create_dataset("H", data=np.ones((2, 3), pair)).attrs["MATLAB_class"] = np.bytes_("double")
        file["H"].attrs["MATLAB_fields"] = ["alpha", "beta"]
    return path.read_bytes().index(b"GCOL")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_whole_heap_is_no_fault(tmp_path: Path, libver: str) -> None:
    write_struct(tmp_path / "x.mat", libver)
    assert find_arrays(tmp_path / "x.mat", lambda name: True)["H"].shape == (3, 2)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 0), (0, 2**64 - HEAD), (1, 2**64 - HEAD), (1, 2**64 - HEAD - 3), (1, 2**64 - 2 * HEAD)],
)
def test_an_object_after_which_the_library_would_not_advance_is_refused(
    tmp_path: Path, libver: str, index: int, size: int
) -> None:
    path = tmp_path / "x.mat"
    heap = write_struct(path, libver)
    content = bytearray(path.read_bytes())
    second = heap + HEAD + HEAD + 8  # behind the first object, of up to 8 bytes
    content[second : second + HEAD] = struct.pack("<HHIQ", index, 1, 0, size)
    path.write_bytes(content)
    for read in (lambda: find_arrays(path, lambda name: True), lambda: open_channels(path).__enter__()):
        with pytest.raises(MatFileError, match=r"x\.mat: damaged in a heap of HDF5; save or copy the file again$"):
            read()


def test_heaps_at_the_end_of_a_large_file_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    heap = write_struct(path)
    content = path.read_bytes()
    bad = content[heap : heap + HEAD] + bytes(HEAD)
    with path.open("r+b") as file:
        file.truncate((40 << 20) - len(bad))
        file.seek(0, 2)
        file.write(bad)
    with pytest.raises(MatFileError, match="damaged in a heap of HDF5"):
        check_heaps(path)


def test_heaps_inside_heaps_do_not_add_up(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    write_struct(path)
    one = b"GCOL\x01\0\0\0" + struct.pack("<QHHIQ", 1 << 40, 1, 1, 0, HEAD)  # an object that covers the next head
    with path.open("ab") as file:
        file.write(one * (1 << 16))
    with pytest.raises(MatFileError, match="holds more than 500000 objects in heaps of HDF5"):
        check_heaps(path)


@pytest.mark.parametrize("userblock", [0, 512, 4096])
def test_a_circle_of_free_blocks_in_a_local_heap_is_refused(tmp_path: Path, userblock: int) -> None:
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=userblock, libver="earliest") as file:
        file["H"] = np.ones((2, 3))
    content = bytearray(path.read_bytes())
    size, first, data = struct.unpack_from("<3Q", content, content.index(b"HEAP") + 8)

    def chained(*following: int) -> Path:
        """The file with free blocks of 16 bytes, each followed by the one at the offset given."""
        for number, offset in enumerate(following):
            struct.pack_into("<2Q", content, userblock + data + first + 16 * number, offset, 16)
        path.write_bytes(content)
        return path

    assert first + 32 <= size
    for whole in ((1,), (first + 16, 1)):
        check_heaps(chained(*whole))
        with h5py.File(path) as file:
            assert list(file) == ["H"]
    for circle in ((first,), (first + 16, first), (first + 16, first + 16)):
        with pytest.raises(MatFileError, match="damaged in a heap of HDF5"):
            check_heaps(chained(*circle))
