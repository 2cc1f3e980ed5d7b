"""Compound types of HDF5 for which h5py would write beyond the array that it reads into."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from matlab_io import MatFileError, find_arrays, inspect_file


def compound(bias: int) -> h5py.h5t.TypeID:
    """Two floats of four bytes, the first with this bias of its exponent: 127 in IEEE 754."""
    real = h5py.h5t.IEEE_F32LE.copy()
    real.set_ebias(bias)
    both = h5py.h5t.create(h5py.h5t.COMPOUND, 8)
    both.insert(b"real", 0, real)
    both.insert(b"imag", 4, h5py.h5t.IEEE_F32LE)
    return both


def written(path: Path, kind: h5py.h5t.TypeID, attribute: bool) -> Path:
    """A file with numbers of a type, as a data set or as the MATLAB class of one."""
    space = h5py.h5s.create_simple((3,))
    with h5py.File(path, "w") as file:
        if attribute:
            holder = file.create_dataset("H", data=np.ones((2, 3)))
            h5py.h5a.create(holder.id, b"MATLAB_class", kind, space)
        else:
            h5py.h5d.create(file.id, b"H", kind, space)
    return path


@pytest.mark.parametrize("attribute", [False, True])
@pytest.mark.parametrize("nested", ["", "compound", "array", "vector"])
def test_overlapping_fields_are_refused(tmp_path: Path, nested: str, attribute: bool) -> None:
    kind = compound(177)
    if nested == "compound":
        outer = h5py.h5t.create(h5py.h5t.COMPOUND, 8)
        outer.insert(b"a", 0, kind)
        kind = outer
    elif nested == "array":
        kind = h5py.h5t.array_create(kind, (2,))
    elif nested == "vector":
        kind = h5py.h5t.vlen_create(kind)
    path = written(tmp_path / "h.mat", kind, attribute)
    for read in (inspect_file, lambda path: find_arrays(path, lambda name: True)):
        with pytest.raises(MatFileError, match=r"the fields of .* overlap") as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert ("the attribute MATLAB_class" if attribute else "H") in str(raised.value)


def test_fields_beside_each_other_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "h.mat", compound(127), attribute=False)
    assert [each.is_complex for each in inspect_file(path)] == [True]
    np.testing.assert_array_equal(find_arrays(path, lambda name: True)["H"], np.zeros((3, 1)))
