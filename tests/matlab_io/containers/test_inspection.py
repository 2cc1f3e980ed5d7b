"""What a file is said to hold."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from matlab_io import MatFileError, inspect_file, write_channels
from matlab_io.containers.contents import detect_version

CONTENT = {
    "a": np.ones((2, 3, 4)),
    "b": np.ones((2, 3), np.complex64),
    "flag": np.array([[True]]),
    "i": np.int16(3),
    "name": "uav",
    "empty": np.zeros((0, 0)),
    "s": {"x": 1.0, "deep": {"H": np.ones((4, 2), complex)}},
}
LISTED = [
    "a (2 x 3 x 4 double)",
    "b (2 x 3 complex single)",
    "convention (1 x 9 char)",
    "empty (0 x 0 double)",
    "flag (1 x 1 logical)",
    "i (1 x 1 int16)",
    "layout (1 x 3 char)",
    "name (1 x 3 char)",
    "s (1 x 1 struct)",
    "s.deep (1 x 1 struct)",
    "s.deep.H (4 x 2 complex double)",
    "s.x (1 x 1 double)",
]


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
def test_every_version_is_listed_alike(tmp_path: Path, version: str) -> None:
    h = np.ones((2, 3, 4), np.complex64)
    write_channels(tmp_path / "c.mat", [h], users=3, antennas=4, drops=2, version=version, extra=CONTENT)
    found = sorted(inspect_file(tmp_path / "c.mat"), key=lambda variable: variable.name)
    assert [str(variable) for variable in found] == ["H (4 x 3 x 2 complex single)", *LISTED]
    assert [variable.name for variable in found if variable.is_candidate] == ["H", "b", "s.deep.H"]


@pytest.mark.parametrize("compressed", [False, True])
def test_kinds_only_scipy_writes(tmp_path: Path, compressed: bool) -> None:
    cell = np.empty((1, 2), object)
    cell[:] = [[1.0, "x"]]
    many = np.array([[(1.0,), (2.0,)]], [("x", object)])
    content = {
        "c": cell,
        "many": many,
        "sp": scipy.sparse.csc_array(np.eye(3) * 1j),
        "b": scipy.sparse.csc_array(np.eye(2) > 0),
    }
    scipy.io.savemat(tmp_path / "c.mat", content, do_compression=compressed)
    assert [str(variable) for variable in inspect_file(tmp_path / "c.mat")] == [
        "c (1 x 2 cell)",
        "many (1 x 2 struct)",
        "sp (3 x 3 complex sparse)",
        "b (2 x 2 sparse)",
    ]


def test_a_struct_array_in_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        group = file.create_group("chan")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        first = file.create_dataset("#refs#/a", data=np.ones((2, 2)))
        references = np.array([[first.ref], [first.ref]], h5py.ref_dtype)
        group.create_dataset("H", data=references, dtype=h5py.ref_dtype)
        file["away"] = h5py.ExternalLink("nowhere.h5", "/x")
    assert [str(variable) for variable in inspect_file(tmp_path / "c.mat")] == ["chan (1 x 2 struct)"]


@pytest.mark.parametrize("others", [(), ("sigma2",)])
def test_a_link_in_place_of_channels_is_named_with_its_file(tmp_path: Path, others: tuple[str, ...]) -> None:
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        file["H"] = h5py.ExternalLink("data.h5", "/measured/H")
        for name in others:
            file[name] = 1.0
    with pytest.raises(MatFileError, match=r"c\.mat: H is a link to /measured/H in data\.h5; give that file"):
        inspect_file(tmp_path / "c.mat")


@pytest.mark.parametrize("size", [0, 512, 1024, 2048, 4096, 65536])
def test_user_blocks_of_every_size(tmp_path: Path, size: int) -> None:
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=size) as file:
        file["H"] = np.ones((2, 4), complex)
    if size:  # the block is the user's: a signature elsewhere in it begins no file
        with (tmp_path / "c.mat").open("r+b") as block:
            block.write(b"8 bytes:\x89HDF\r\n\x1a\n")
    assert detect_version(tmp_path / "c.mat") == "7.3"
    assert [str(variable) for variable in inspect_file(tmp_path / "c.mat")] == ["H (2 x 4 complex double)"]


def test_level_4(tmp_path: Path) -> None:
    content = {"H": np.ones((4, 2), complex), "x": np.ones((2, 2)), "s": "uav"}
    scipy.io.savemat(tmp_path / "c.mat", content, format="4")
    assert [str(variable) for variable in inspect_file(tmp_path / "c.mat")] == [
        "H (4 x 2 complex double)",
        "x (2 x 2 double)",
        "s (1 x 3 char)",
    ]
