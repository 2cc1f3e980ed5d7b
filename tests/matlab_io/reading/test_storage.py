"""Numbers beside the channels: read whole if they are real, refused by name if they are complex."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from matlab_io.containers.contents import list_variables
from matlab_io.errors import MatFileError
from matlab_io.reading.storage import open_storage


@pytest.mark.parametrize("version", ["4", "7", "7.3", "npz"])
def test_complex_numbers_are_refused_not_cut(tmp_path: Path, version: str) -> None:
    path = tmp_path / ("in.npz" if version == "npz" else "in.mat")
    values = {"sigma2": np.array([[0.5 + 0.25j, 1.0]]), "level": np.array([[0.5, 1.0]])}
    if version == "npz":
        np.savez(path, sigma2=values["sigma2"], level=values["level"])
    elif version == "7.3":
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in values.items():
                pair = [("real", np.float64), ("imag", np.float64)]
                stored = value.T.astype(complex).view(pair).reshape(2, 1) if np.iscomplexobj(value) else value.T
                file.create_dataset(name, data=stored).attrs["MATLAB_class"] = np.bytes_("double")
    else:
        scipy.io.savemat(path, values, format="4" if version == "4" else "5")
    listed = {variable.name: variable for variable in list_variables(path, version)}
    with closing(open_storage(path, version, None, list(listed.values()))) as storage:
        assert np.array_equal(storage.numbers(listed["level"]), [[0.5, 1.0]])
        with pytest.raises(MatFileError, match=r"in.* sigma2 is complex, expected real numbers"):
            storage.numbers(listed["sigma2"])
