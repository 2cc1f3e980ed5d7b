"""Layouts: parsing, guessing, permuting, and splitting runs of drops."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.containers.variable import matlab_shape
from matlab_io.errors import MatFileError
from matlab_io.reading.layout import Layout, guess, parse, slabs

AsSaved = Callable[..., npt.NDArray[Any]]
LAYOUTS = ["".join(p) for r in range(1, 6) for p in itertools.permutations("nksf1", r) if "n" in p]


@st.composite
def fitted(draw: st.DrawFn) -> Layout:
    axes = draw(st.sampled_from(LAYOUTS))
    return Layout(axes, tuple(1 if letter == "1" else draw(st.integers(1, 4)) for letter in axes))


@given(fitted())
def test_permuting_to_drops_and_back_gives_the_array_again(as_saved: AsSaved, layout: Layout) -> None:
    array = np.arange(np.prod(layout.shape)).reshape(layout.shape)
    drops = layout.to_drops(array).reshape(layout.drops, layout.users, layout.antennas)
    assert np.array_equal(as_saved(layout.axes, layout.shape, drops), array)


@given(fitted(), st.data())
def test_each_element_is_where_its_axes_say(layout: Layout, data: st.DataObject) -> None:
    array = np.arange(np.prod(layout.shape)).reshape(layout.shape)
    drops = layout.to_drops(array).reshape(layout.drops, layout.users, layout.antennas)
    at = tuple(data.draw(st.integers(0, size - 1)) for size in layout.shape)
    where = dict(zip(layout.axes, at, strict=True))
    # MATLAB's linear index over the drop axes, in the file's order: the first axis runs fastest.
    drop = np.ravel_multi_index(
        tuple(where[letter] for letter in layout.drop_letters) or (0,), layout.drop_axes or (1,), order="F"
    )
    assert drops[drop, where.get("k", 0), where["n"]] == array[at]


def test_n_k_s_costs_no_copy() -> None:
    array = np.zeros((4, 3, 2), order="F")
    moved = Layout("nks", (4, 3, 2)).to_drops(array)
    assert moved.flags.c_contiguous
    assert np.shares_memory(moved, array)


@given(st.lists(st.integers(1, 7), max_size=2), st.data())
def test_slabs_cover_a_run_of_drops_in_linear_order(axes: list[int], data: st.DataObject) -> None:
    total = int(np.prod(axes))
    start = data.draw(st.integers(0, total - 1)) if axes else 0
    stop = data.draw(st.integers(start + 1, total)) if axes else 1
    linear = np.arange(total).reshape(axes, order="F")
    seen = np.full(stop - start, -1)
    pieces = list(slabs(start, stop, axes))
    for offset, index in pieces:
        piece = linear[index].ravel(order="F")
        seen[offset : offset + piece.size] = piece
    assert np.array_equal(seen, np.arange(start, stop))
    assert len(pieces) <= 3


@pytest.mark.parametrize(
    ("shape", "axes", "convention"),
    [
        ((256, 8), "nk", "hermitian"),
        ((8, 256), "kn", "direct"),
        ((256, 8, 100), "nks", "hermitian"),
        ((8, 256, 100), "kns", "direct"),
        ((64, 1), "nk", "hermitian"),
        ((1, 64), "kn", "direct"),
        ((64, 1, 5), "nks", "hermitian"),
        ((64, 1, 12, 5), "nkfs", "hermitian"),
        ((4, 64, 12, 5), "knfs", "direct"),
        ((256, 8, 1, 1), "nk", "hermitian"),
    ],
)
def test_the_only_possible_reading_is_taken(shape: tuple[int, ...], axes: str, convention: str) -> None:
    layout = guess(shape)
    assert (layout.axes, layout.convention) == (axes, convention)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 100), (8, 8, 4, 4), (1, 1)])
def test_as_many_users_as_antennas_is_not_guessed(shape: tuple[int, ...]) -> None:
    with pytest.raises(MatFileError, match=r"nk.* = users in columns, y = H' x; kn.*y = H x; pass --layout"):
        guess(shape)


def test_five_axes_are_not_guessed() -> None:
    with pytest.raises(MatFileError, match="2 x 3 x 4 x 5 x 6 has more axes than can be guessed"):
        guess((2, 3, 4, 5, 6))


@pytest.mark.parametrize(
    ("axes", "shape", "fits"),
    [
        ("nks", (16, 3), (16, 3, 1)),  # MATLAB drops trailing axes of length one
        ("nks", (16, 1), (16, 1, 1)),
        ("n", (16, 1), (16,)),
        ("1nk", (1, 16, 3), (1, 16, 3)),
        ("NKS", (16, 3, 5), (16, 3, 5)),
        ("ns", (16, 5), (16, 5)),
        ("nk", (16, 3, 1, 1), (16, 3)),
    ],
)
def test_a_layout_fits_the_shape(axes: str, shape: tuple[int, ...], fits: tuple[int, ...]) -> None:
    assert parse(axes, shape).shape == fits


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("nkx", (4, 3, 2), "unknown axis 'x'"),
        ("nkk", (4, 3, 2), "'k' is named twice"),
        ("ks", (4, 3), "no antenna axis"),
        ("", (4, 3), "no antenna axis"),
        ("nk", (4, 3, 2), "names 2 axes but the array is 4 x 3 x 2"),
        ("n1k", (4, 3, 2), "axis 2 is named 1 but has length 3"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(axes: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MatFileError, match=message):
        parse(axes, shape)


@pytest.mark.parametrize(
    ("axes", "convention"),
    [("nks", "hermitian"), ("snk", "hermitian"), ("skn", "direct"), ("ns", "hermitian"), ("sn", "direct")],
)
def test_users_in_columns_are_hermitian_and_in_rows_direct(axes: str, convention: str) -> None:
    assert Layout(axes, (2,) * len(axes)).convention == convention


def test_matlab_shape_has_two_axes_or_more() -> None:
    assert [matlab_shape(s) for s in [(), (3,), (3, 1, 1), (1, 1, 2)]] == [(1, 1), (3, 1), (3, 1), (1, 1, 2)]
