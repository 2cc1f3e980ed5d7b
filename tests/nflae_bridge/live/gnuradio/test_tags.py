"""The tag header of gr-zeromq's stream blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflae_bridge.live.gnuradio.tags import Tag, TagError, decode_header, encode_header, has_header

# What GNU Radio 3.10.5's push_sink sent for three vectors with two tags, samples left out.
GNURADIO_WROTE = bytes.fromhex(
    "f05f01" + "0000000000000000" + "0200000000000000"
    "0000000000000000" + "02000772785f74696d65" + "0c000000020b0000000000000005043fe0000000000000" + "0200026d65"
    "0200000000000000" + "02000466726571" + "0441cdcd6500000000" + "0200026d65"
)  # fmt: skip
TAGS = [Tag(0, "rx_time", (5, 0.5), "me"), Tag(2, "freq", 1e9, "me")]


def test_bytes_are_gnuradios() -> None:
    offset, tags, end = decode_header(GNURADIO_WROTE + b"samples")
    assert (offset, tags, end) == (0, TAGS, len(GNURADIO_WROTE))
    assert encode_header(offset, tags) == GNURADIO_WROTE


@given(
    st.integers(0, 2**64 - 1),
    st.lists(st.builds(Tag, st.integers(0, 2**64 - 1), st.text(max_size=5), st.floats(allow_nan=False), st.booleans())),
    st.binary(max_size=20),
)
def test_round_trip(offset: int, tags: list[Tag], samples: bytes) -> None:
    message = encode_header(offset, tags) + samples
    read_offset, read_tags, at = decode_header(message)
    assert (read_offset, read_tags, message[at:]) == (offset, tags, samples)


def test_cut_anywhere_it_is_refused() -> None:
    for length in range(len(GNURADIO_WROTE)):
        with pytest.raises(TagError):
            decode_header(GNURADIO_WROTE[:length])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x00" * 40, "does not begin with a tag header"),
        (GNURADIO_WROTE[:2] + b"\x02" + GNURADIO_WROTE[3:], "does not begin with a tag header"),
        (GNURADIO_WROTE[:11] + b"\xff" * 8 + GNURADIO_WROTE[19:], "announces 18446744073709551615 tags"),
        (GNURADIO_WROTE[:27] + b"\xee" + GNURADIO_WROTE[28:], "damaged"),
    ],
)
def test_damage_is_named(message: bytes, words: str) -> None:
    with pytest.raises(TagError, match=words):
        decode_header(message)


def test_samples_are_told_from_a_header() -> None:
    assert has_header(GNURADIO_WROTE)
    assert not has_header(b"\x00" * 64)
    assert not has_header(b"")
