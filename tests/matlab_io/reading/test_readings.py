"""Arrays whose axes nothing names: which readings are listed, in which order, and which one is taken."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.containers.variable import matlab_shape
from matlab_io.reading.layout import Layout
from matlab_io.reading.readings import AmbiguousLayout, only_reading, possible

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 8, 14, 64, 72]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("shape", "axes", "convention"),
    [
        ((256, 8), "nk", "hermitian"),
        ((8, 256), "kn", "direct"),
        ((64, 1), "nk", "hermitian"),
        ((1, 64), "kn", "direct"),
        ((256, 8, 1, 1), "nk", "hermitian"),
    ],
)
def test_two_axes_with_one_reading_are_read(shape: tuple[int, ...], axes: str, convention: str) -> None:
    layout = only_reading(shape)
    assert (layout.axes, layout.convention) == (axes, convention)


@pytest.mark.parametrize("shape", [(8, 8), (1, 1)])
def test_as_many_users_as_antennas_are_not_guessed(shape: tuple[int, int]) -> None:
    with pytest.raises(AmbiguousLayout, match=r"--layout nk = .*columns, y = H' x; --layout kn = .*rows, y = H x"):
        only_reading(shape)


@given(SHAPES)
def test_three_axes_are_never_read(shape: list[int]) -> None:
    sizes = matlab_shape(shape)
    if len(sizes) == 2:
        return
    with pytest.raises(AmbiguousLayout) as caught:
        only_reading(shape)
    assert "\n" not in str(caught.value)
    assert "--layout" in str(caught.value)
    assert list(caught.value.readings) == possible(shape)


def by_hand(sizes: tuple[int, ...]) -> set[str]:
    """Every way to give an axis longer than one a letter, filtered by the rules in words."""
    names = [""]
    for size in sizes:
        names = [name + letter for name in names for letter in ("nkrs" if size > 1 else "1")]
    kept = set()
    for name in names:
        length = {letter: size for letter, size in zip(name, sizes, strict=True) if letter in "kr"}
        length["n"] = math.prod(size for letter, size in zip(name, sizes, strict=True) if letter == "n")
        once = all(name.count(letter) <= 1 for letter in "kr")
        panel = name.count("n") == 1 or (name.count("n") == 2 and "nn" in name.replace("1", ""))
        if once and panel and max(length.get("k", 1), length.get("r", 1)) <= length["n"] and length.get("r", 1) <= 16:
            kept.add(name)
    return kept


@given(SHAPES)
def test_all_possible_readings_are_listed_once(shape: list[int]) -> None:
    sizes = matlab_shape(shape)
    if len(sizes) == 2:
        return
    found = [layout.axes.replace("f", "s") for layout in possible(sizes)]
    assert len(found) == len(set(found))
    assert set(found) == by_hand(sizes)


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((64, 4, 5), "nks"),  # N x K x S, the package's own order
        ((1, 64, 4), "1nk"),  # MATLAB pages: H(:, :, k) of user k
        ((72, 14, 2, 32), "fsrn"),  # 5G Toolbox: hest is subcarriers x symbols x receive x transmit antennas
        ((624, 14, 4, 64), "fsrn"),
        ((2, 64, 12, 5), "rnfs"),  # QuaDRiGa: [Rx, Tx, carrier, snapshot]
        ((2, 64, 5), "rns"),
        ((50, 4, 64), "skn"),  # a numpy array (drops, users, antennas) saved by savemat
        ((4, 64, 12, 5), "rnfs"),
    ],
)
def test_the_likely_reading_comes_first(shape: tuple[int, ...], first: str) -> None:
    assert possible(shape)[0].text == first


def test_readings_of_a_row_major_array_are_in_its_own_order() -> None:
    readings = possible((50, 4, 64), row_major=True)
    assert readings[0] == Layout("nks", (64, 4, 50), row_major=True)
    assert readings[0].text == "skn"
    assert readings[0].meaning() == "64 antennas x 4 users x 50 drops, users in rows, y = H x"


@pytest.mark.parametrize("shape", [(300, 14), (612, 14), (72, 28), (624, 12)])
def test_a_resource_grid_of_one_antenna_is_not_antennas_and_users(shape: tuple[int, int]) -> None:
    """5G Toolbox: hest of one transmit and one receive antenna is subcarriers x symbols, two axes."""
    with pytest.raises(AmbiguousLayout, match=rf"grid of {shape[0]} subcarriers x {shape[1]} symbols.*--layout nk"):
        only_reading(shape)


def test_a_long_list_is_cut_and_many_axes_are_not_listed() -> None:
    with pytest.raises(AmbiguousLayout, match=r"can be read in 30 ways.*and 17 more, which nflae inspect lists"):
        only_reading((72, 14, 2, 32))
    with pytest.raises(AmbiguousLayout, match=r"needs --layout, one letter per axis: n \(transmit antenna\)"):
        only_reading((2,) * 7)
