"""Formats, code rates and CQI tables: what they carry, and what is said where they don't fit."""

from __future__ import annotations

import itertools
import math

import pytest

from matlab_io.errors import NflaeError
from simulator.link_level.modulation import Format, choose_modulation, cqi_table

# The tables' columns "efficiency", 3GPP TS 38.214 V18, Tables 5.2.2.1-2 and 5.2.2.1-3.
EFFICIENCY = {
    "auto": [0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023, 4.5234,
             5.1152, 5.5547],
    "auto:256qam": [0.1523, 0.3770, 0.8770, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547,
                    6.2266, 6.9141, 7.4063],
}  # fmt: skip


@pytest.mark.parametrize("name", EFFICIENCY)
def test_cqi_tables(name: str) -> None:
    table = cqi_table(name)
    assert [entry.index for entry in table] == list(range(1, 16))
    for entry, efficiency in zip(table, EFFICIENCY[name], strict=True):
        assert entry.format.rate is not None
        assert entry.format.bits_per_symbol * entry.format.rate == pytest.approx(efficiency, abs=6e-5)


@pytest.mark.parametrize("name", EFFICIENCY)
@pytest.mark.parametrize("symbols", [84, 168, 504, 1008])
def test_sinr_required_rises_and_stays_above_capacity(name: str, symbols: int) -> None:
    """A finite block at 10 % block errors needs more than Shannon's SINR, by no more than a few dB."""
    before = -math.inf
    for entry, efficiency in zip(cqi_table(name), EFFICIENCY[name], strict=True):
        required = entry.required_db(symbols)
        assert required > before
        assert 0.2 < required - 10 * math.log10(2**efficiency - 1) < 4.5
        assert required <= entry.required_db(symbols // 2)
        before = required


def test_fixed_modulation() -> None:
    assert choose_modulation("64qam", None, 168).formats == (Format(6, 0.5),)
    assert choose_modulation("qpsk", "none", 168).formats == (Format(2),)
    assert choose_modulation("16qam", "ldpc:0.75", 168).formats == (Format(4, 0.75),)
    assert Format(4, 0.5).information_bits(168) == 336
    assert Format(4).information_bits(168) == 672


def test_information_bits_are_rounded_down_except_for_rounding_errors() -> None:
    assert Format(2, 78 / 1024).information_bits(168) == 25  # 25.59
    for symbols, bits, twentieths in itertools.product(range(7, 200), (2, 4, 6, 8), range(1, 20)):
        exact = symbols * bits * twentieths // 20
        assert Format(bits, twentieths / 20).information_bits(symbols) == exact


def test_required_sinr_is_as_measured_and_interpolated_between() -> None:
    entry = cqi_table("auto")[0]
    assert (entry.required_db(168), entry.required_db(1008)) == pytest.approx((-6.34, -7.12))
    along = (1 / math.sqrt(336) - 1 / math.sqrt(1008)) / (1 / math.sqrt(168) - 1 / math.sqrt(1008))
    assert entry.required_db(336) == pytest.approx(-7.12 + along * (7.12 - 6.34))


def test_the_highest_rate_and_the_ends_of_the_range_are_allowed() -> None:
    assert choose_modulation("qpsk", "ldpc:948/1024", 168).formats == (Format(2, 948 / 1024),)
    for symbols in (4, 2816):
        assert choose_modulation("64qam", None, symbols).formats[0].information_bits(symbols) == 3 * symbols
    for symbols in (3, 2817):
        with pytest.raises(NflaeError, match=r"--symbols 4 (to|or)"):
            choose_modulation("64qam", None, symbols)
    for symbols in (79, 1520):
        choose_modulation("auto", None, symbols)


@pytest.mark.parametrize(
    ("name", "code", "symbols", "told"),
    [
        ("8psk", None, 168, "there are qpsk, 16qam, 64qam, 256qam, auto, auto:256qam"),
        ("16qam", "turbo", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:1/0", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:3/2", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:0", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:1", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:nan", 168, "there are none and ldpc:RATE"),
        ("16qam", "ldpc:0.97", 168, "rates from 0.0179 to 0.9257"),
        ("64qam", "ldpc:1/2", 5000, "--symbols 4 to 2816"),
        ("qpsk", "ldpc:1/100", 100, "--symbols 600 to"),
        ("qpsk", "ldpc:1/2", 3, "--symbols 7 or more"),
        ("auto", "ldpc:1/2", 168, "leave it out"),
        ("auto", None, 78, "--symbols 79 to 1520"),
        ("auto:256qam", None, 2000, "--symbols 79 to 1140"),
    ],
)
def test_what_is_not_there_or_does_not_fit(name: str, code: str | None, symbols: int, told: str) -> None:
    with pytest.raises(NflaeError) as failure:
        choose_modulation(name, code, symbols)
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)
