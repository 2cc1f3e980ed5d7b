"""The result schema: the one table from which classes, files, help texts and pages are made."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import matlab_io
from matlab_io.result import OPTIONAL_ARRAYS, RESULT_ARRAYS, RESULT_NAMES, Result, markdown_table

CLIENT = Path(matlab_io.__file__).parent / "matlab" / "+nflae" / "Client.m"


def matlab_help() -> str:
    """The comment block below the first line, which MATLAB's and Octave's help show."""
    lines = CLIENT.read_text().splitlines()[1:]
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("%"))])


def test_the_names_are_those_of_the_fields_but_for_a_keyword() -> None:
    entries = [*RESULT_ARRAYS, *OPTIONAL_ARRAYS]
    assert [entry.field for entry in entries] == [field.name for field in dataclasses.fields(Result)]
    assert {entry.name: entry.field for entry in RESULT_ARRAYS if entry.name != entry.field} == {
        "lambda": "uplink_power"
    }
    assert [entry.name for entry in RESULT_ARRAYS] == list(RESULT_NAMES) == list(matlab_io.RESULT_NAMES)


@pytest.mark.parametrize(
    ("name", "python", "matlab"),
    [
        ("precoder", (5, 3, 8), (8, 3, 5)),
        ("power", (5, 3), (3, 5)),
        ("sum_rate", (5,), (1, 5)),
        ("receive_combiner", (5, 3, 2), (2, 3, 5)),
    ],
)
def test_shapes(name: str, python: tuple[int, ...], matlab: tuple[int, ...]) -> None:
    (entry,) = [entry for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS) if entry.name == name]
    assert entry.shape(drops=5, users=3, antennas=8, receive=2) == python
    assert entry.matlab_shape(drops=5, users=3, antennas=8, receive=2) == matlab


def test_a_result_of_arrays() -> None:
    arrays = {entry.name: np.zeros(entry.shape(2, 3, 4), entry.dtype) for entry in RESULT_ARRAYS}
    result = Result.from_arrays(arrays)
    assert all(getattr(result, entry.field) is arrays[entry.name] for entry in RESULT_ARRAYS)
    with pytest.raises(KeyError, match="sinr"):
        Result.from_arrays({name: array for name, array in arrays.items() if name != "sinr"})


def test_the_matlab_help_lists_the_arrays() -> None:
    expected = []
    for entry in RESULT_ARRAYS:
        size = " x ".join([*(entry.axes.upper() or "1"), "S"])
        unit = f", {entry.unit}" if entry.unit else ""
        expected.append(f"%     {entry.name:<18}{f'{size} {entry.matlab_class}':<27}{entry.description}{unit}")
    listed = matlab_help().partition("result file of `nflae precode`:\n")[2].splitlines()
    assert listed[: len(expected)] == expected
    assert listed[len(expected)].startswith("%     nflae_info ")


def test_the_matlab_help_lists_the_schemes() -> None:
    from simulator.schemes import scheme_names

    listed = matlab_help().partition("'Scheme'")[2].partition("'Refine'")[0]
    names = re.findall(r"'(\w+)'", listed)
    assert names[-1] == "nflae", "the default"
    assert sorted(names[:-1]) == sorted({*scheme_names(), "nflae"})


def test_every_matlab_function_has_a_help_line_with_its_name() -> None:
    for file in sorted(CLIENT.parents[1].rglob("*.m")):
        first, help_line, *_ = file.read_text().splitlines()
        if not first.startswith(("function", "classdef")):  # scripts and Contents.m
            continue
        name = f"nflae.{file.stem}" if file.parent == CLIENT.parent else file.stem.upper()
        assert re.fullmatch(rf"% {re.escape(name)}  [A-Z].*\.", help_line), f"{file.name}: {help_line}"


def test_the_reference_table_has_a_row_per_array() -> None:
    """The pages that include it are checked with the other generated ones."""
    rows = [line.split(" | ") for line in markdown_table().splitlines()[2:]]
    assert [row[0] for row in rows] == [
        f"| `{name}`" for name in (*RESULT_NAMES, "receive_combiner", "analog", "digital")
    ]
    assert rows[0][1:4] == ["N × K × S", "complex64", "complex single"]
    assert rows[-4][1:4] == ["1 × S", "bool", "logical"]
    assert rows[-3][1:4] == ["R × K × S", "complex64", "complex single"]
    assert rows[-2][1:4] == ["N × C × S", "complex64", "complex single"]
    assert rows[-1][1:4] == ["C × K × S", "complex64", "complex single"]
