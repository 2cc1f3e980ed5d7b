"""The PMT codec: bytes as GNU Radio writes them, exact round trips, and no mercy for damaged or hostile ones."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nflae_bridge.live.gnuradio.pmt import MAX_DEPTH, Dialect, Pair, PmtError, Vector, decode, decode_at, encode

# Written down from GNU Radio 3.10.5's pmt.serialize_str.
GNURADIO_WROTE = [
    ("06", None),
    ("00", True),
    ("01", False),
    ("020003616263", "abc"),
    ("0300000005", 5),
    ("03fffffffb", -5),
    ("0d0000010000000000", 2**40),
    ("0b8000000000000001", np.uint64(2**63 + 1)),
    ("043ff8000000000000", 1.5),
    ("053ff8000000000000c000000000000000", 1.5 - 2j),
    ("0703000000010300000002", Pair(1, 2)),
    ("07030000000107030000000206", [1, 2]),
    ("0c0000000203000000010300000002", (1, 2)),
    ("080000000203000000070300000007", Vector((7, 7))),
    ("0907020001620440000000000000000907020001610300000001" + "06", {"b": 2.0, "a": 1}),
    ("0a000000000201000102", np.array([1, 2], np.uint8)),
    ("0a01000000020100ff02", np.array([-1, 2], np.int8)),
    ("0a0200000002010000010002", np.array([1, 2], np.uint16)),
    ("0a03000000020100ffff0002", np.array([-1, 2], np.int16)),
    ("0a040000000201000000000100000002", np.array([1, 2], np.uint32)),
    ("0a05000000020100ffffffff00000002", np.array([-1, 2], np.int32)),
    ("0a0600000002010000000000000000010000000000000002", np.array([1, 2], np.uint64)),
    ("0a07000000020100ffffffffffffffff0000000000000002", np.array([-1, 2], np.int64)),
    ("0a080000000201003fc0000040000000", np.array([1.5, 2], np.float32)),
    ("0a090000000201003ff80000000000004000000000000000", np.array([1.5, 2], np.float64)),
    ("0a0a0000000201003fc000003f8000004000000000000000", np.array([1.5 + 1j, 2], np.complex64)),
    (
        "0a0b0000000201003ff80000000000003ff000000000000040000000000000000000000000000000",
        np.array([1.5 + 1j, 2], np.complex128),
    ),
    ("0a00000000000100", np.array([], np.uint8)),
]

# Written by hand after pmt_serialize.cc of v3.9.8 (64-bit elements, so imaginary part first) and v3.8.5 (doubles).
OLD_RELEASES: list[tuple[Dialect, str, Any]] = [
    ("3.9", "0a0a0000000201003f8000003fc000000000000040000000", np.array([1.5 + 1j, 2], np.complex64)),
    ("3.9", "0a080000000201003fc0000040000000", np.array([1.5, 2], np.float32)),
    (
        "3.9",
        "0a0b0000000101003ff80000000000003ff0000000000000",
        np.array([1.5 + 1j], np.complex128),
    ),
    ("3.8", "0a0a0000000101003ff80000000000003ff0000000000000", np.array([1.5 + 1j], np.complex64)),
    ("3.8", "0a080000000201003ff80000000000004000000000000000", np.array([1.5, 2], np.float32)),
    ("3.8", "0a09000000010100" + "3ff8000000000000", np.array([1.5])),
]

UNIFORM = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"]

numbers = st.floats(allow_nan=False)
scalars = (
    st.none()
    | st.booleans()
    | st.text(max_size=9)
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(np.uint64)
    | numbers
    | st.builds(complex, numbers, numbers)
    | st.sampled_from(UNIFORM).flatmap(lambda name: arrays.arrays(name, st.integers(0, 4)))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Vector)
        | st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=3)
        | st.builds(Pair, inner, st.text(max_size=5))
    ),
    max_leaves=12,
)


def assert_same(one: Any, other: Any) -> None:
    """Equal in value and in type, at every level."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, Pair):
        assert_same((one.car, one.cdr), (other.car, other.cdr))
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(other.items()))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize(("wire", "value"), GNURADIO_WROTE, ids=[wire[:12] for wire, _ in GNURADIO_WROTE])
def test_bytes_are_gnuradios(wire: str, value: Any) -> None:
    assert encode(value).hex() == wire
    assert_same(decode(bytes.fromhex(wire)), value)


@given(values)
def test_round_trip_is_exact(value: Any) -> None:
    assert_same(decode(encode(value)), value)


@given(values)
def test_cut_anywhere_it_is_refused(value: Any) -> None:
    wire = encode(value)
    for length in range(len(wire)):
        with pytest.raises(PmtError):
            decode(wire[:length])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_pmt_or_refused(data: bytes) -> None:
    with contextlib.suppress(PmtError):
        decode(data)


def test_empty_list_and_dictionary_are_null() -> None:
    assert encode([]) == encode({}) == encode(None)


def test_what_follows_is_reported_and_can_be_read_on() -> None:
    wire = encode("one") + encode(2)
    with pytest.raises(PmtError, match="5 bytes follow the PMT that ends at byte 6"):
        decode(wire)
    assert decode_at(wire, 6) == (2, 11)


@pytest.mark.parametrize(
    "nested",
    [
        b"\x07" * 100_000,
        b"\x0c\x00\x00\x00\x01" * 100_000,
        b"\x09\x07" * 100_000,
        b"\x07\x06" * 100_000 + b"\x00",  # pairs that end in no null
    ],
    ids=["pairs", "tuples", "dictionaries", "improper list"],
)
def test_deep_nesting_is_refused(nested: bytes) -> None:
    with pytest.raises(PmtError, match=r"nested deeper|chain of"):
        decode(nested)


def test_a_long_list_is_not_deep() -> None:
    assert decode(encode([1] * 100_000)) == [1] * 100_000


def test_nesting_is_bounded_both_ways() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = (value,)
    assert decode(encode(value)) == value
    with pytest.raises(PmtError, match="nested deeper"):
        encode((value,))


@pytest.mark.parametrize(
    "claim",
    [
        struct.pack(">BBIB", 10, 10, 0xFFFFFFFF, 0),
        struct.pack(">BI", 12, 0xFFFFFFFF),
        struct.pack(">BI", 8, 0xFFFFFFFF),
        struct.pack(">BH", 2, 0xFFFF),
    ],
    ids=["samples", "tuple", "vector", "symbol"],
)
def test_sizes_are_checked_before_anything_is_allocated(claim: bytes) -> None:
    with pytest.raises(PmtError, match="cut short"):
        decode(claim + b"\x06" * 10)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("ff", "begins no PMT"),
        ("0a0c0000000000", "unknown type 12"),
        ("0906", "entry that is no pair"),
        ("090706060300000001", "does not go on"),
        ("09070a0000000000000606", "key that is a ndarray"),
    ],
)
def test_malformed_ones_are_named(wire: str, words: str) -> None:
    with pytest.raises(PmtError, match=words):
        decode(bytes.fromhex(wire))


@pytest.mark.parametrize(
    "value", [object(), 2**64, "x" * 70_000, np.zeros((2, 2), np.float32), np.zeros(2, np.float16), {1}]
)
def test_what_no_pmt_holds_is_refused(value: Any) -> None:
    with pytest.raises(PmtError):
        encode(value)


def test_symbols_of_any_bytes_survive() -> None:
    wire = bytes.fromhex("020002ff61")
    assert encode(decode(wire)) == wire


@pytest.mark.parametrize(("dialect", "written", "value"), OLD_RELEASES)
def test_vectors_of_old_releases(dialect: Dialect, written: str, value: Any) -> None:
    assert encode(value, dialect).hex() == written
    assert_same(decode(bytes.fromhex(written), dialect), value)
    pdu = Pair({"x": value}, value)
    assert_same(decode(encode(pdu, dialect), dialect), pdu)


def test_3_8_does_not_read_as_another_release() -> None:
    vector = np.array([1.5 + 1j, 2], np.complex64)
    with pytest.raises(PmtError):
        decode(encode(vector, "3.8"))
    with pytest.raises(PmtError):
        decode(encode(vector), "3.8")
