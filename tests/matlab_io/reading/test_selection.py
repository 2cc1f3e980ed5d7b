"""Which variable of a file is taken as the channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError
from matlab_io.reading.selection import choose_variable as choose

FILE = Path("x.mat")


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells and structs of the variables listed here hold nothing."""
    monkeypatch.setattr("matlab_io.reading.selection.find_arrays", lambda path, wanted: {})


def array(name: str, *, kind: str = "double", is_complex: bool = True, shape: tuple[int, ...] = (8, 2)) -> Variable:
    return Variable(name, shape, kind, is_complex)


def real(name: str, shape: tuple[int, ...] = (8, 2)) -> Variable:
    return array(name, is_complex=False, shape=shape)


@pytest.mark.parametrize("name", ["H", "h", "channel", "Channels", "CSI", "H_est", "Hest", "h_hat", "chan.H", "data"])
def test_the_only_complex_array_is_taken(name: str) -> None:
    variables = [real("power", (1, 1)), array(name), array("s", kind="char", is_complex=False)]
    assert choose(FILE, variables, None, False).name == name


def test_of_several_the_one_named_like_a_channel_is_taken() -> None:
    assert choose(FILE, [array("pilots"), array("H_est"), array("noise")], None, False).name == "H_est"


def test_a_height_does_not_hide_the_channel() -> None:
    assert choose(FILE, [real("h", (1, 1)), array("data")], None, False).name == "data"


@pytest.mark.parametrize(
    ("variables", "wanted", "message"),
    [
        ([array("H"), array("H_est")], None, r"several.*: H \(8 x 2 complex double\), H_est .*--var"),
        ([array("a"), array("b")], None, r"several arrays could be the channel: a .*b .*--var"),
        ([], None, "holds no variables"),
        ([real("H")], None, r"H \(8 x 2 double\) is real.*--allow-real"),
        ([real("H"), array("w")], None, r"H \(8 x 2 double\) is real.*--allow-real"),
        ([real("H")], "H", r"H \(8 x 2 double\) is real.*--allow-real"),
        ([array("precoder")], None, "precoder.*not taken.*it is a precoder.*--var precoder"),
        ([array("c.coeff", shape=(2, 4, 20))], None, "not taken.*QuaDRiGa.*--var c.coeff"),
        ([array("H")], "G", r"no variable G; candidates: H \(8 x 2 complex double\)"),
        ([real("x")], "G", r"no variable G; it holds x"),
        ([array("H", shape=(0, 0))], "H", "is empty"),
        ([array("H", kind="sparse")], "H", r"save full\(H\)"),
        ([array("H", kind="sparse")], None, r"save full\(H\)"),
        ([array("data", kind="sparse"), real("x")], None, r"save full\(data\)"),
        ([array("H", kind="logical", is_complex=False)], "H", r"double\(H\) and pass --allow-real"),
        ([array("H", kind="logical", is_complex=False)], None, r"double\(H\) and pass --allow-real"),
        ([array("H", shape=(16, 0, 4), is_complex=False)], None, r"H \(16 x 0 x 4 double\) is empty; channels need"),
        ([array("H", kind="object", is_complex=False)], None, r"Python objects.*np\.stack"),
        ([real("A"), real("P")], None, "--var abs:A,angle:P, or in degrees --var abs:A,angle_deg:P"),
        ([real("H_phase"), real("H_mag")], None, "--var abs:H_mag,angle:H_phase"),
        (
            [real("x"), array("mask", kind="logical", is_complex=False)],
            None,
            "no complex numeric array.*; save the channels",
        ),
        ([array("H", kind="function_handle", is_complex=False)], "H", "not a numeric array"),
        (
            [array("c", kind="struct", is_complex=False, shape=(1, 1)), array("c.H")],
            "c",
            r"c \(1 x 1 struct\) is not a numeric array; its complex arrays: c.H",
        ),
        (
            [array("c", kind="struct", is_complex=False, shape=(1, 4))],
            "c.H",
            r"struct array \(1 x 4\).*c\(1\).H",
        ),
    ],
)
def test_what_cannot_be_taken_is_named_with_a_remedy(
    variables: list[Variable], wanted: str | None, message: str
) -> None:
    with pytest.raises(MatFileError, match=message) as caught:
        choose(FILE, variables, wanted, False)
    assert str(caught.value).startswith("x.mat: ")
    assert "\n" not in str(caught.value)


def test_real_arrays_are_taken_only_when_allowed() -> None:
    assert choose(FILE, [real("H"), real("x")], None, True).name == "H"
    assert choose(FILE, [real("x")], "x", True).name == "x"
    with pytest.raises(MatFileError, match="several"):
        choose(FILE, [real("H"), real("h_est")], None, True)


def test_a_never_guessed_array_is_taken_by_name() -> None:
    assert choose(FILE, [array("precoder")], "precoder", False).name == "precoder"


def test_a_long_listing_is_cut() -> None:
    with pytest.raises(MatFileError, match="and 3 more"):
        choose(FILE, [real(f"x{i}") for i in range(15)], None, False)
