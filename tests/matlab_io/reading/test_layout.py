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
from matlab_io.reading.layout import AXES, Layout, parse, slabs

AsSaved = Callable[..., npt.NDArray[Any]]
LAYOUTS = ["".join(p) for r in range(1, 6) for p in itertools.permutations("nksf1", r) if "n" in p]
LAYOUTS += ["nnk", "knn", "nkn", "nknss", "snskf", "sfnks", "nskns"]


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
    # MATLAB's linear index over the axes of a kind, in the file's order: the first axis runs fastest.
    index = []
    for letters in ("sf", "k", "n"):
        axes = [axis for axis, letter in enumerate(layout.axes) if letter in letters]
        sizes = tuple(layout.shape[axis] for axis in axes) or (1,)
        index.append(np.ravel_multi_index(tuple(at[axis] for axis in axes) or (0,), sizes, order="F"))
    assert drops[tuple(index)] == array[at]


@pytest.mark.parametrize(
    ("axes", "shape", "permuted"),
    [
        ("nks", (5, 3, 2), lambda a: a.transpose(2, 1, 0)),
        ("kns", (3, 5, 2), lambda a: a.transpose(2, 0, 1)),
        ("snk", (2, 5, 3), lambda a: a.transpose(0, 2, 1)),
        ("skn", (2, 3, 5), lambda a: a),
        ("nkfs", (5, 3, 4, 2), lambda a: a.transpose(3, 2, 1, 0)),
        ("knsf", (3, 5, 2, 4), lambda a: a.transpose(3, 2, 0, 1)),
        ("fnsk", (4, 5, 2, 3), lambda a: a.transpose(2, 0, 3, 1)),
        ("nk", (5, 3), lambda a: a.T),
        ("kn", (3, 5), lambda a: a),
        ("n", (5,), lambda a: a[None]),
        ("ns", (5, 2), lambda a: a.T[:, None]),
        ("sfn", (2, 4, 5), lambda a: a.transpose(1, 0, 2)[:, :, None]),
        ("1nk", (1, 5, 3), lambda a: a[0].T),
        ("n1ks", (5, 1, 3, 2), lambda a: a[:, 0].transpose(2, 1, 0)),
    ],
)
def test_to_drops_is_this_transposition(
    axes: str, shape: tuple[int, ...], permuted: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    found = Layout(axes, shape).to_drops(array)
    np.testing.assert_array_equal(found, permuted(array), strict=True)
    assert np.shares_memory(found, array)


@given(fitted(), st.data())
def test_a_box_of_drops_is_the_same_read_alone_or_out_of_the_whole(layout: Layout, data: st.DataObject) -> None:
    array = np.arange(np.prod(layout.shape)).reshape(layout.shape)
    box = []
    for size in layout.drop_axes:
        start = data.draw(st.integers(0, size - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, size))))
    alone = layout.to_drops(array[layout.index(box)])
    np.testing.assert_array_equal(alone, layout.to_drops(array)[tuple(reversed(box))], strict=True)


@pytest.mark.parametrize("box", [(), (slice(0, 1),) * 2])
def test_a_box_has_one_slice_per_drop_axis(box: tuple[slice, ...]) -> None:
    with pytest.raises(ValueError, match="one per drop axis"):
        Layout("nks", (4, 3, 2)).index(box)


@given(fitted())
def test_sizes_of_a_layout(layout: Layout) -> None:
    sizes = {letter: [] for letter in "nksf1"}
    for letter, size in zip(layout.axes, layout.shape, strict=True):
        sizes[letter].append(size)
    products = {letter: int(np.prod(each)) for letter, each in sizes.items()}
    assert (layout.antennas, layout.users) == (products["n"], products["k"])
    assert layout.antenna_axes == tuple(sizes["n"])
    assert [layout.size(letter) for letter in "sf1"] == [products[letter] for letter in "sf1"]
    assert layout.drop_letters == layout.axes.translate({ord(letter): None for letter in "nk1"})
    assert sorted(layout.drop_axes) == sorted(sizes["s"] + sizes["f"])
    assert layout.drops == products["s"] * products["f"]


@given(fitted())
def test_drops_are_slowest_where_a_run_of_them_is_one_piece_of_memory(layout: Layout) -> None:
    shape = tuple(1 if letter == "1" else 3 for letter in layout.axes)  # with axes of length one it may be by chance
    even = Layout(layout.axes, shape)
    memory = np.arange(np.prod(shape)).reshape(shape, order="F")
    runs = even.to_drops(memory).reshape(even.drops, -1)
    contiguous = all(np.ptp(runs[:stop]) == runs[:stop].size - 1 for stop in range(1, even.drops + 1))
    assert even.drops_are_slowest == contiguous


@pytest.mark.parametrize(
    ("axes", "shape", "text"),
    [
        ("nks", (256, 8, 100), "256 antennas x 8 users x 100 drops"),
        ("kns", (1, 64, 2), "64 antennas x 1 user x 2 drops"),
        ("n", (1,), "1 antenna x 1 user x 1 drop"),
        ("nk", (4, 2), "4 antennas x 2 users x 1 drop"),
        ("nks", (4, 2, 1), "4 antennas x 2 users x 1 drop"),
        ("snkf", (5, 4, 2, 12), "4 antennas x 2 users x 5 drops x 12 subcarriers"),
        ("nkfs", (4, 2, 12, 5), "4 antennas x 2 users x 12 subcarriers x 5 drops"),
        ("nf", (4, 1), "4 antennas x 1 user x 1 subcarrier"),
    ],
)
def test_a_description_names_every_size(axes: str, shape: tuple[int, ...], text: str) -> None:
    assert Layout(axes, shape).describe() == text


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
    assert all(linear[index].size <= stop - start for _, index in pieces)


@pytest.mark.parametrize(
    ("start", "stop", "axes", "boxes"),
    [
        (0, 1, (), [(0, ())]),
        (2, 5, (7,), [(0, (slice(2, 5),))]),
        (0, 12, (4, 3), [(0, (slice(0, 4), slice(0, 3)))]),
        (4, 12, (4, 3), [(0, (slice(0, 4), slice(1, 3)))]),
        (0, 3, (4, 3), [(0, (slice(0, 3), slice(0, 1)))]),
        (5, 7, (4, 3), [(0, (slice(1, 3), slice(1, 2)))]),
        (5, 8, (4, 3), [(0, (slice(1, 4), slice(1, 2)))]),
        (3, 5, (4, 3), [(0, (slice(3, 4), slice(0, 1))), (1, (slice(0, 1), slice(1, 2)))]),
        (
            2,
            15,
            (4, 4),
            [
                (0, (slice(2, 4), slice(0, 1))),
                (2, (slice(0, 4), slice(1, 3))),
                (10, (slice(0, 3), slice(3, 4))),
            ],
        ),
    ],
)
def test_slabs_are_whole_columns_and_what_is_left_before_and_after(
    start: int, stop: int, axes: tuple[int, ...], boxes: list[tuple[int, tuple[slice, ...]]]
) -> None:
    assert list(slabs(start, stop, axes)) == boxes


def test_no_drops_are_no_slabs_of_two_axes() -> None:
    assert list(slabs(3, 3, (4, 3))) == []
    assert list(slabs(3, 3, (7,))) == [(0, (slice(3, 3),))]


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


UNKNOWN = f"; use {AXES}, in MATLAB order, e.g. nks"


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("nkx", (4, 3, 2), f"layout 'nkx': unknown axis 'x'{UNKNOWN}"),
        ("n2", (4, 3), f"layout 'n2': unknown axis '2'{UNKNOWN}"),
        ("nzya", (4, 3, 2), f"layout 'nzya': unknown axis 'a'{UNKNOWN}"),
        ("nkk", (4, 3, 2), "layout 'nkk': axis 'k' (user) is named twice; only n and s may recur"),
        ("nff", (4, 3, 2), "layout 'nff': axis 'f' (subcarrier) is named twice; only n and s may recur"),
        ("rnr", (4, 3, 2), "layout 'rnr': axis 'r' (receive antenna) is named twice; only n and s may recur"),
        (
            "nkc",
            (4, 3, 3),
            "layout 'nkc': axis 3 is named c but has length 3 (the array is 4 x 3 x 3); name it n, k, r, s or f",
        ),
        ("ks", (4, 3), "layout 'ks': no antenna axis; name it n, e.g. nks"),
        ("", (4, 3), "layout '': no antenna axis; name it n, e.g. nks"),
        (
            "nk",
            (4, 3, 2),
            "layout 'nk' names 2 axes but the array is 4 x 3 x 2; name every axis, with 1 for one of length one",
        ),
        (
            "nk",
            (4, 1, 3),
            "layout 'nk' names 2 axes but the array is 4 x 1 x 3; name every axis, with 1 for one of length one",
        ),
        (
            "n",
            (1, 4),
            "layout 'n' names 1 axes but the array is 1 x 4; name every axis, with 1 for one of length one",
        ),
        (
            "n1k",
            (4, 3, 2),
            "layout 'n1k': axis 2 is named 1 but has length 3 (the array is 4 x 3 x 2); name it n, k, r, s or f",
        ),
        ("1n", (4, 3), "layout '1n': axis 1 is named 1 but has length 4 (the array is 4 x 3); name it n, k, r, s or f"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(axes: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MatFileError) as caught:
        parse(axes, shape)
    assert str(caught.value) == message


@given(fitted(), st.integers(0, 2), st.booleans())
def test_a_layout_written_for_its_array_is_parsed(layout: Layout, ones: int, upper: bool) -> None:
    written = f" {layout.axes.upper() if upper else layout.axes} "
    assert parse(written, (*layout.shape, *[1] * ones)) == layout
    assert parse(written, matlab_shape(layout.shape)) == layout  # without the trailing axes of length one


def test_two_singleton_axes_may_be_named() -> None:
    assert parse("1n1k", (1, 4, 1, 3)) == Layout("1n1k", (1, 4, 1, 3))


@pytest.mark.parametrize(
    ("axes", "convention"),
    [
        ("nks", "hermitian"),
        ("snk", "hermitian"),
        ("skn", "direct"),
        ("ns", "hermitian"),
        ("sn", "direct"),
        ("n", "hermitian"),
        ("1n", "direct"),
        ("1nk", "direct"),
        ("rn", "direct"),
        ("nr", "hermitian"),
        ("fsrn", "direct"),
        ("n1", "hermitian"),
        ("1sn", "direct"),
        ("1fn", "direct"),
        ("k1n", "direct"),
        ("n1k", "hermitian"),
    ],
)
def test_users_in_columns_are_hermitian_and_in_rows_direct(axes: str, convention: str) -> None:
    assert Layout(axes, (2,) * len(axes)).convention == convention


def test_matlab_shape_has_two_axes_or_more() -> None:
    assert [matlab_shape(s) for s in [(), (3,), (3, 1, 1), (1, 1, 2)]] == [(1, 1), (3, 1), (3, 1), (1, 1, 2)]
