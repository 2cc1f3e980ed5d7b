"""Channels spread over variables, cells and struct elements, or over two real arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import AmbiguousLayout, MatFileError, find_arrays, open_channels
from matlab_io.containers.variable import Variable
from matlab_io.reading.expressions import part_names


def c(*shape: int, seed: int = 0) -> npt.NDArray[np.complex128]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def cell(*arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
    out = np.empty((1, len(arrays)), object)
    for index, array in enumerate(arrays):
        out[0, index] = array
    return out


def structs(field: str, *arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
    out = np.empty((1, len(arrays)), [(field, object)])
    for index, array in enumerate(arrays):
        out[0, index][field] = array
    return out


def read(path: Path, **options: Any) -> tuple[npt.NDArray[np.complex64], list[str]]:
    with open_channels(path, **options) as file:
        return file.read(0, file.drops), file.notes


ROWS = [c(1, 16, seed=k) for k in range(3)]  # y_k = H{k} x


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("content", "expression", "formula"),
    [
        ({"H": cell(*ROWS)}, "H{:}", "y_k = H{k}(1,:) * x"),
        ({"user": structs("h", *ROWS)}, "user(:).h", "y_k = user(k).h(1,:) * x"),
        ({"h1": ROWS[0], "h2": ROWS[1], "h3": ROWS[2]}, "h1,h2,h3", "y_k = h_k(1,:) * x"),
        ({"s": {"H": cell(*ROWS)}}, "s.H{:}", "y_k = s.H{k}(1,:) * x"),
        ({"D": cell(structs("channel", *ROWS))}, "D{1}(:).channel", "y_k = D{1}(k).channel(1,:) * x"),
    ],
    ids=["cells", "struct array", "variables", "cells in a struct", "struct array in a cell"],
)
def test_rows_of_users_are_stacked(
    tmp_path: Path, content: dict[str, Any], expression: str, formula: str, compressed: bool
) -> None:
    scipy.io.savemat(tmp_path / "c.mat", content, do_compression=compressed)
    channels, notes = read(tmp_path / "c.mat", variable=expression)
    assert np.array_equal(channels[0], np.concatenate(ROWS).conj().astype(np.complex64))
    assert f"{expression} read as 16 antennas x 3 users x 1 drop (layout 1nk, from the shape)" in notes
    assert notes[1].endswith(f"y = H x (direct): {formula}")


def test_columns_of_users_are_hermitian(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"H": cell(*(row.T for row in ROWS))})
    channels, notes = read(tmp_path / "c.mat", variable="H{:}")
    assert np.array_equal(channels[0], np.concatenate(ROWS).astype(np.complex64))
    assert notes[1].endswith("y_k = H{k}(:,1)' * x")


def test_one_cell_is_an_array_of_its_own(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"H_total": cell(c(8, 2), c(8, 3, seed=1))})
    channels, notes = read(tmp_path / "c.mat", variable="H_total{2}")
    assert np.array_equal(channels[0], c(8, 3, seed=1).T.astype(np.complex64))
    assert notes[1].endswith("y_k = H_total{2}(:,k)' * x")


def test_elements_with_several_axes_need_a_layout(tmp_path: Path) -> None:
    drops = [c(8, 2, seed=s) for s in range(5)]
    scipy.io.savemat(tmp_path / "c.mat", {"H": cell(*drops)})
    with pytest.raises(
        AmbiguousLayout, match=r"5 elements of 8 x 2 .*--layout nks = 8 antennas x 2 users x 5 drops"
    ) as e:
        open_channels(tmp_path / "c.mat", variable="H{:}")
    assert "--layout nrk = 8 antennas x 5 users with 2 receive antennas each x 1 drop" in str(e.value)
    wanted = np.stack([drop.T for drop in drops]).astype(np.complex64)
    for layout in ("nk", "nks"):
        assert np.array_equal(read(tmp_path / "c.mat", variable="H{:}", layout=layout)[0], wanted)
    as_users, _ = read(tmp_path / "c.mat", variable="H{:}", layout="nr", receive_antennas="each")
    assert np.array_equal(as_users[0].reshape(5, 2, 8), wanted)
    as_drops, _ = read(tmp_path / "c.mat", variable="H{:}", layout="ns")
    assert np.array_equal(as_drops, wanted.transpose(1, 0, 2))


def test_cells_of_a_matlab_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        references = []
        for index, row in enumerate(ROWS):
            stored = np.empty(row.T.shape, [("real", "f8"), ("imag", "f8")])
            stored["real"], stored["imag"] = row.T.real, row.T.imag
            data = file.create_dataset(f"#refs#/{index}", data=stored)
            data.attrs["MATLAB_class"] = np.bytes_("double")
            references.append([data.ref])
        cells = file.create_dataset("H", data=np.array(references, h5py.ref_dtype), dtype=h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
    channels, _ = read(tmp_path / "c.mat", variable="H{:}")
    assert np.array_equal(channels[0], np.concatenate(ROWS).conj().astype(np.complex64))


Z = c(8, 2, 5)


@pytest.mark.parametrize(
    ("content", "expression"),
    [
        ({"Hr": Z.real, "Hi": Z.imag}, "re:Hr,im:Hi"),
        ({"Hr": Z.real, "Hi": Z.imag}, "im:Hi,re:Hr"),
        ({"g": np.abs(Z), "phi": np.angle(Z)}, "abs:g,angle:phi"),
        ({"g": np.abs(Z), "phi": np.rad2deg(np.angle(Z))}, "abs:g,angle_deg:phi"),
        ({"H": {"re": Z.real, "im": Z.imag}}, "re:H.re,im:H.im"),
    ],
)
def test_two_real_arrays_make_a_complex_one(tmp_path: Path, content: dict[str, Any], expression: str) -> None:
    scipy.io.savemat(tmp_path / "c.mat", content)
    channels, notes = read(tmp_path / "c.mat", variable=expression, layout="nks")
    np.testing.assert_allclose(channels, Z.T.astype(np.complex64), rtol=1e-6)
    assert "y_k = H(:,k,s)' * x with H = " in notes[1]


@pytest.mark.parametrize("axes", ["nksc", "cnks"])
def test_an_axis_of_real_and_imaginary_part(tmp_path: Path, axes: str) -> None:
    stored = np.stack([Z.real, Z.imag], axis=axes.index("c"))
    scipy.io.savemat(tmp_path / "c.mat", {"H": stored})
    channels, notes = read(tmp_path / "c.mat", layout=axes)
    assert np.array_equal(channels, Z.T.astype(np.complex64))
    end = "complex(H(:,k,s,1), H(:,k,s,2))' * x" if axes == "nksc" else "y_k = squeeze(complex(H(1,:,k,s), H(2,:,k,s)))"
    assert end in notes[1] or axes == "cnks"


def test_the_axis_of_both_parts_is_never_drops(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"H": np.stack([Z.real, Z.imag], -1)})
    with pytest.raises(MatFileError, match=r"--layout nksc, or save complex\(H\(:,:,:,1\), H\(:,:,:,2\)\)"):
        open_channels(tmp_path / "c.mat")


@pytest.mark.parametrize("variable", [None, "H", "parts"])
def test_the_axis_of_both_parts_may_be_stated_by_the_file(tmp_path: Path, variable: str | None) -> None:
    parts = np.stack([Z.real, Z.imag], -1)
    scipy.io.savemat(tmp_path / "c.mat", {variable or "H": parts, "layout": "nksc"})
    channels, notes = read(tmp_path / "c.mat", **({} if variable is None else {"variable": variable}))
    assert np.array_equal(channels, Z.T.astype(np.complex64))
    assert "as the file states" in notes[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Hr", "Hi"), ("H_r", "H_i"), ("H_real", "H_imag"), ("re_H", "im_H"), ("ReH", "ImH"), ("h.re", "h.im")],
)
def test_the_names_of_two_parts_are_known(first: str, second: str) -> None:
    variables = [Variable(name, (8, 2), "double", False) for name in ("power", second, first)]
    assert part_names(variables) == (first, second)
    assert part_names(variables[:2]) is None


@pytest.mark.parametrize(("scale", "told"), [(1, False), (4, True)])
def test_angles_beyond_a_turn_may_be_degrees(tmp_path: Path, scale: float, told: bool) -> None:
    phase = np.linspace(-2 * np.pi, 2 * np.pi, 80).reshape(8, 2, 5)
    scipy.io.savemat(tmp_path / "c.mat", {"A": np.abs(Z), "P": scale * phase})
    _, notes = read(tmp_path / "c.mat", variable="abs:A,angle:P", layout="nks")
    assert ("P reaches 25.13, taken as rad; if it is in degrees, pass --var abs:A,angle_deg:P" in notes) == told
    assert any("degrees" in note for note in notes) == told


@pytest.mark.parametrize("name", [None, "C"])
def test_a_cell_of_two_axes_is_joined_or_named_by_element(tmp_path: Path, name: str | None) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"C": cell(*(c(16, 3) for _ in range(4))).reshape(2, 2)})
    with pytest.raises(MatFileError, match=r"H = cat\(3, C\{:\}\), or pass --var 'C\{1\}'$"):
        open_channels(tmp_path / "c.mat", variable=name)
    assert read(tmp_path / "c.mat", variable="C{1}")[0].shape == (1, 3, 16)


def test_two_parts_are_named_with_the_option(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"Hr": Z.real, "Hi": Z.imag})
    with pytest.raises(MatFileError, match="pass --var re:Hr,im:Hi"):
        open_channels(tmp_path / "c.mat")


@pytest.mark.parametrize(
    ("content", "expression", "message"),
    [
        ({"H": cell(*ROWS)}, "G{:}", r"no numeric array G\{:\}; the file holds H \(1 x 3 cell\)"),
        ({"H": cell(ROWS[0], c(1, 8))}, "H{:}", r"H\{2\} is 1 x 8 and H\{1\} 1 x 16; elements of one size"),
        ({"H": cell(ROWS[0], np.zeros((0, 0)), ROWS[2])}, "H{:}", r"H\{2\} is empty or not numeric"),
        ({"H": cell(cell(*ROWS), cell(*ROWS))}, "H{:}{:}", r"elements of one axis are stacked.*--var 'H\{1\}\{:\}'"),
        ({"H": cell(*ROWS, *ROWS).reshape(2, 3)}, "H{:}", r"H is 2 x 3, and elements of one axis are stacked"),
        ({"H": cell(*ROWS)}, "H{1,:}", "expected one index of an element"),
        ({"a": Z.real}, "re:a", "expected re:NAME,im:NAME"),
        ({"a": Z.real, "b": Z.imag}, "re:a,angle:b", "expected re:NAME,im:NAME"),
        ({"a": Z.real, "b": Z.imag[:4]}, "re:a,im:b", "not two real arrays of one shape"),
        ({"a": Z, "b": Z.imag}, "re:a,im:b", "not two real arrays of one shape"),
    ],
)
def test_what_cannot_be_stacked_is_named(
    tmp_path: Path, content: dict[str, Any], expression: str, message: str
) -> None:
    scipy.io.savemat(tmp_path / "c.mat", content)
    with pytest.raises(MatFileError, match=message) as caught:
        open_channels(tmp_path / "c.mat", variable=expression)
    assert str(caught.value).startswith(f"{tmp_path / 'c.mat'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"Hc": cell(*ROWS)}, ["Hc{:}", "Hc{1}"]),
        ({"user": structs("h", *ROWS)}, ["user(:).h", "user(1).h"]),
        ({"run": {"out": cell(*ROWS)}}, ["run.out{:}", "run.out{1}"]),
        ({"C": cell(cell(*ROWS), cell(*ROWS))}, ["C{1}{:}", "C{1}{1}"]),
    ],
)
def test_advice_that_is_given_can_be_typed(tmp_path: Path, content: dict[str, Any], advice: list[str]) -> None:
    scipy.io.savemat(tmp_path / "c.mat", content)
    with pytest.raises(MatFileError) as caught:
        open_channels(tmp_path / "c.mat")
    for expression in advice:
        assert f"--var '{expression}'" in str(caught.value)
        assert read(tmp_path / "c.mat", variable=expression)[0].shape[-1] == 16


def test_advice_loads_few_arrays_of_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []

    def counted(path: Path, wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
        found = find_arrays(path, wanted)
        loaded.append(len(found))
        return found

    monkeypatch.setattr("matlab_io.reading.selection.find_arrays", counted)
    scipy.io.savemat(tmp_path / "c.mat", {"H": cell(*(c(1, 4, seed=k) for k in range(60)))})
    with pytest.raises(MatFileError, match=r"--var 'H\{:\}' to take every element as a user"):
        open_channels(tmp_path / "c.mat")
    assert 0 < max(loaded) <= 16


def test_an_element_by_row_and_column(tmp_path: Path) -> None:
    grid = cell(*(c(8, 2, seed=at) for at in range(6))).reshape(2, 3)
    scipy.io.savemat(tmp_path / "c.mat", {"D": grid})
    channels, notes = read(tmp_path / "c.mat", variable="D{2,3}")
    assert np.array_equal(channels[0], grid[1, 2].T.astype(np.complex64))
    assert "D{2,3} read as 8 antennas x 2 users" in notes[0]


def test_advice_for_both_parts_follows_the_layout_and_the_order(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.stack([Z.T.real, Z.T.imag], -1))
    with pytest.raises(MatFileError, match=r"--layout sknc, or save H\[\.\.\., 0\] \+ 1j\*H\[\.\.\., 1\]"):
        open_channels(tmp_path / "c.npy", layout="skn", convention="hermitian")
    channels, _ = read(tmp_path / "c.npy", layout="sknc", convention="hermitian")
    assert np.array_equal(channels, Z.T.astype(np.complex64))


def test_every_listed_reading_of_elements_selects_itself(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "c.mat", {"G": cell(*(c(2, 16, seed=k) for k in range(4)))})
    with pytest.raises(AmbiguousLayout) as caught:
        open_channels(tmp_path / "c.mat", variable="G{:}")
    texts = [each.text for each in caught.value.readings]
    assert len(texts) == len(set(texts)) > 2
    for each in caught.value.readings:
        mode = "each" if "r" in each.text else None
        with open_channels(tmp_path / "c.mat", variable="G{:}", layout=each.text, receive_antennas=mode) as file:
            assert each.describe() in file.notes[0]
