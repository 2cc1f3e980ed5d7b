"""Arrays found by their own name, in structs, struct arrays and cells, of every version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from matlab_io import MatFileError, find_arrays

SCRIPT = """
c.h = reshape(1:6, 2, 3) + 1i; c.other = 7;
s(1).h = single(2i); s(2).h = 3; s(3).h = [];
k = {c, {c.h * 2}, 'text'};
h = int8([1 -2]); other = 1:3; g.deep(2).x{3}.h = 5; g.l.h = true;
save('%s', 'all.mat', 'c', 's', 'k', 'h', 'other', 'g');
"""


def named(name: str) -> bool:
    return name == "h"


@pytest.mark.octave
@pytest.mark.parametrize("version", ["-v7", "-v6"])
def test_octave(octave: Callable[[str, Path], str], tmp_path: Path, version: str) -> None:
    octave(SCRIPT % version, tmp_path)
    found = find_arrays(tmp_path / "all.mat", named)
    matrix = np.arange(1, 7).reshape(2, 3, order="F") + 1j
    expected = {"c.h": matrix, "s(1).h": [[2j]], "s(2).h": [[3]], "k{1}.h": matrix, "h": [[1, -2]]}
    expected["g.deep(2).x{3}.h"] = [[5]]
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert found["s(1).h"].dtype == np.complex64
    assert found["c.h"].dtype == np.complex128
    assert found["h"].dtype == np.float64


def test_own_name_of_a_cells_element(tmp_path: Path) -> None:
    cells = np.empty((2, 2), object)
    for index, at in enumerate(np.ndindex(2, 2)):
        cells[at] = np.full((2, 3, 4), index + 1j)
    for version in ("7", "7.3"):
        path = tmp_path / f"{version}.mat"
        if version == "7":
            scipy.io.savemat(path, {"gains": cells})
        else:
            hdf5storage.savemat(str(path), {"gains": cells}, format="7.3")
        found = find_arrays(path, lambda name: name == "gains")
        assert list(found) == ["gains{1}", "gains{2}", "gains{3}", "gains{4}"]
        assert [array[0, 0, 0] for array in found.values()] == [1j, 2 + 1j, 1 + 1j, 3 + 1j]  # down the columns
        assert all(array.shape == (2, 3, 4) for array in found.values())


def test_struct_array_as_matlab_lays_it_out_in_hdf5(tmp_path: Path) -> None:
    """By hand, after a file of MATLAB's: a group with a data set of references a field, the elements in #refs#."""
    with h5py.File(tmp_path / "s.mat", "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")
        group = file.create_group("chan")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        compound = np.dtype([("real", "f8"), ("imag", "f8")])
        pointers = []
        for index in range(3):
            values = np.zeros((4, 2), compound)
            values["real"], values["imag"] = index, np.arange(8).reshape(4, 2)
            element = kept.create_dataset(f"e{index}", data=values)
            element.attrs["MATLAB_class"] = np.bytes_("double")
            pointers.append(element.ref)
        group.create_dataset("h", data=np.array(pointers, h5py.ref_dtype).reshape(3, 1))
    with (tmp_path / "s.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    found = find_arrays(tmp_path / "s.mat", named)
    assert list(found) == ["chan(1).h", "chan(2).h", "chan(3).h"]
    np.testing.assert_array_equal(found["chan(3).h"], 2 + 1j * np.arange(8).reshape(4, 2).T)


def test_version_4(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "four.mat", {"h": np.array([[1, 2j]]), "x": np.eye(2)}, format="4")
    found = find_arrays(tmp_path / "four.mat", named)
    assert list(found) == ["h"]
    np.testing.assert_array_equal(found["h"], [[1, 2j]])


def test_empty_sparse_and_text_are_no_arrays(tmp_path: Path) -> None:
    import scipy.sparse

    for index, value in enumerate([np.zeros((0, 3)), scipy.sparse.eye(3), "text"]):
        scipy.io.savemat(tmp_path / f"{index}.mat", {"h": value, "s": {"h": value}})
        assert find_arrays(tmp_path / f"{index}.mat", named) == {}


def test_octaves_hdf5_is_refused(octave: Callable[[str, Path], str], tmp_path: Path) -> None:
    octave("h = 1:3; save -hdf5 h.mat h", tmp_path)
    with pytest.raises(MatFileError, match="Octave's -hdf5 format"):
        find_arrays(tmp_path / "h.mat", named)


@pytest.mark.parametrize("version", ["7", "7.3"])
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_damage_ends_in_one_line_or_in_arrays(
    tmp_path_factory: pytest.TempPathFactory, version: str, position: int, value: int
) -> None:
    """A flipped byte anywhere: what can be read is, or one line says what is wrong."""
    path = tmp_path_factory.mktemp("damage") / "h.mat"
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = {"h": np.arange(3.0)}, {"h": np.arange(4.0) * 1j}
    content: dict[str, Any] = {"c": cells}
    if version == "7":
        scipy.io.savemat(path, content)
    else:
        hdf5storage.savemat(str(path), content, format="7.3")
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] = value
    path.write_bytes(raw)
    told = ""
    try:
        find_arrays(path, named)
    except MatFileError as error:
        told = str(error)
    assert "\n" not in told
    assert not told or str(path) in told
