"""The wire format against json and numpy alone: what a client in another language would write and read."""

from __future__ import annotations

import json
import math
import re
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from matlab_io.errors import printable
from matlab_io.result import RESULT_NAMES, Result
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.answers import decode_reply, encode_answer, encode_error, encode_status
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from nflae_bridge.live.protocol.headers import request_id
from nflae_bridge.live.protocol.messages import PrecodeRequest, StatusRequest
from nflae_bridge.live.server.transport.envelope import split_envelope
from simulator.downlink.budget import LinkBudget

BOOLEAN = ("near_field", "feasible", "fallback")
PER_DROP = ("sum_rate", "feasible", "fallback")

# Whatever Unicode there is but lone surrogates, which UTF-8 hasn't.
ids = st.text(st.characters(exclude_categories=("Cs",)), max_size=128)
watts = st.floats(min_value=1e-30, max_value=1e30)


@st.composite
def channel_arrays(draw: st.DrawFn) -> npt.NDArray[Any]:
    """Arrays of every bit pattern, NaN included: the wire doesn't look at numbers."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)))
    dtype = np.dtype(draw(st.sampled_from(["<c8", "<c16"])))
    size = math.prod(shape) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def precode_requests(draw: st.DrawFn) -> PrecodeRequest:
    channels = draw(channel_arrays())
    drops, users, _ = channels.shape
    scheme = draw(st.just("nflae") | ids)
    labels = st.lists(st.booleans(), min_size=drops * users, max_size=drops * users)
    return PrecodeRequest(
        id=draw(ids),
        channels=channels,
        budget=LinkBudget(
            draw(watts),
            draw(watts),
            draw(st.floats(min_value=0, max_value=1, exclude_min=True)),
            draw(st.floats(min_value=0, allow_nan=False, allow_infinity=False)),
        ),
        convention=draw(st.sampled_from(["hermitian", "direct"])),  # type: ignore[arg-type]
        scheme=scheme,
        refine=draw(st.integers(0, 100)) if scheme == "nflae" else 0,
        near_field=draw(st.none() | labels.map(lambda flags: np.array(flags).reshape(drops, users))),
        want=tuple(draw(st.lists(st.sampled_from(RESULT_NAMES), min_size=1, unique=True))),
        deadline=draw(st.just(math.inf) | st.floats(min_value=1e-3, max_value=1e6)),
    )


def matlab_bytes(array: npt.NDArray[Any], dtype: str) -> bytes:
    """An array (drops, users, antennas) as MATLAB has it in memory: N x K x S, first axis fastest."""
    return np.transpose(array).astype(dtype).tobytes(order="F")


def a_request(**fields: Any) -> list[bytes]:
    """Frames of a good request for N=4, K=2, S=3, but for ``fields``; a field that is ... is left out."""
    header = {"v": 1, "id": "7", "op": "precode", "shape": [4, 2, 3]} | fields
    kept = {name: value for name, value in header.items() if value is not ...}
    return [json.dumps(kept).encode(), np.ones(24, "<c8").tobytes()]


def refusal(frames: list[bytes]) -> WireError:
    with pytest.raises(WireError) as caught:
        decode_request(frames)
    return caught.value


def read_or_refused(frames: list[bytes]) -> PrecodeRequest | None:
    """The request; None if it was refused in the way it has to be."""
    try:
        got = decode_request(frames)
    except WireError as error:
        told = json.loads(bytes(encode_error(request_id(frames), error)[0]))
    else:
        assert isinstance(got, PrecodeRequest)
        return got
    assert told["error"]["code"] == "bad_request"
    return None


# Requests


@given(precode_requests())
def test_request_is_what_the_protocol_says(request: PrecodeRequest) -> None:
    header, *frames = [bytes(frame) for frame in encode_request(request)]
    drops, users, antennas = request.channels.shape
    told = json.loads(header)
    fields = {
        "dtype": "complex64",
        "power": 1.0,
        "noise_power": 0.01,
        "alpha_c": 1.0,
        "min_rate": 0.0,
        "convention": "hermitian",
        "scheme": "nflae",
        "refine": 0,
        "near_field": False,
        "want": list(RESULT_NAMES),
    } | told
    assert fields.pop("deadline_ms", math.inf) == pytest.approx(1e3 * request.deadline)
    shape = fields.pop("shape")
    assert shape == [antennas, users, drops]
    assert fields == {
        "v": 1,
        "op": "precode",
        "id": request.id,
        "dtype": request.channels.dtype.name,
        "power": request.budget.power,
        "noise_power": request.budget.noise_power,
        "alpha_c": request.budget.alpha_c,
        "min_rate": request.budget.min_rate,
        "convention": request.convention,
        "scheme": request.scheme,
        "refine": request.refine,
        "near_field": request.near_field is not None,
        "want": list(request.want),
    }
    assert frames[0] == matlab_bytes(request.channels, request.channels.dtype.str)
    assert len(frames) == (1 if request.near_field is None else 2)
    if request.near_field is not None:
        assert frames[1] == matlab_bytes(request.near_field, "u1")


@given(precode_requests())
def test_request_comes_back_as_it_was(request: PrecodeRequest) -> None:
    got = decode_request(encode_request(request))
    assert isinstance(got, PrecodeRequest)
    assert got.channels.tobytes() == request.channels.tobytes()
    assert got.channels.shape == request.channels.shape
    assert got.channels.dtype == request.channels.dtype
    if request.near_field is None:
        assert got.near_field is None
    else:
        np.testing.assert_array_equal(got.near_field, request.near_field)
    assert got.deadline == pytest.approx(request.deadline)
    for field in ("id", "budget", "convention", "scheme", "refine", "want"):
        assert getattr(got, field) == getattr(request, field), field


@given(ids)
@example('"\\\u2028\x00é😀')
def test_status_request_and_its_id(name: str) -> None:
    frames = encode_request(StatusRequest(name))
    assert json.loads(bytes(frames[0])) == {"v": 1, "id": name, "op": "status"}
    assert decode_request(frames) == StatusRequest(name)
    assert request_id(frames) == name


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, int])
def test_numbers_may_be_numpys(kind: type) -> None:
    budget = LinkBudget(power=kind(2), noise_power=kind(1))
    request = PrecodeRequest("1", np.ones((1, 2, 4), np.complex64), budget, refine=kind(3))
    header = json.loads(bytes(encode_request(request)[0]))
    assert (header["power"], header["noise_power"], header["refine"]) == (2, 1, 3)


def test_channels_are_read_in_matlab_order() -> None:
    antennas, users, drops = 4, 2, 3
    H = np.arange(24).reshape(antennas, users, drops) * (1 + 2j)  # as in MATLAB: H(n, k, s)
    got = decode_request([a_request()[0], H.astype("<c8").tobytes(order="F")])
    assert isinstance(got, PrecodeRequest)
    for n, k, s in np.ndindex(H.shape):
        assert got.channels[s, k, n] == H[n, k, s]


def test_one_drop_may_go_without_its_axis_and_arrays_of_any_layout_are_sent_right() -> None:
    got = decode_request([a_request(shape=[4, 2])[0], np.ones(8, "<c8").tobytes()])
    assert isinstance(got, PrecodeRequest)
    assert got.channels.shape == (1, 2, 4)

    wide = (np.arange(48).reshape(3, 2, 8) + 0.5j).astype(">c8")
    every_other = wide[::-1, :, ::2]
    assert not every_other.flags.c_contiguous
    frame = bytes(encode_request(PrecodeRequest("1", every_other))[1])
    assert frame == matlab_bytes(every_other, "<c8")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("v", value) for value in (..., 0, 2, "1", None, True, 1.5)),
        *(("id", value) for value in (..., 7, None, ["7"], "x" * 129)),
        *(("op", value) for value in (..., "precod", "Status", 1, None, [])),
        *(("shape", value) for value in (..., None, 4, "4,2,3", [], [4], [4, 2, 3, 1], [4, 2, 3.0], [4, 2, True])),
        *(("shape", value) for value in ([0, 2, 3], [-4, 2, 3], [4, 2, None], [[4], 2, 3], [4, 2, 10**30])),
        *(("dtype", value) for value in ("float32", "", 8, None, ["complex64"])),
        *(("power", value) for value in (0, -1, 1e40, 1e-40, "1", None, True, [1], 10**400)),
        *(("noise_power", value) for value in (0, -0.1, 1e40, 1e-40, "1", None, False)),
        *(("alpha_c", value) for value in (0, -0.1, 1.0000001, "1", None, True)),
        *(("min_rate", value) for value in (-1e-9, "0", None, True)),
        *(("convention", value) for value in ("Hermitian", "", 1, None)),
        *(("scheme", value) for value in (1, None, ["mrt"], {})),
        *(("refine", value) for value in (-1, 101, 1.5, "1", None, True)),
        *(("near_field", value) for value in (1, None, [True])),
        *(("want", value) for value in ([], "precoder", ["beams"], [1], ["power", "power"], {}, [["power"]])),
        *(("deadline_ms", value) for value in (0, -1, "10", True, [10])),
        *(("pover", value) for value in (1, None)),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    error = refusal(a_request(**{field: value}))
    assert error.code == "bad_request"
    assert re.search(rf"\b{field}\b", str(error)), error
    assert len(str(error)) < 1000


@pytest.mark.parametrize("field", ["power", "noise_power", "alpha_c", "min_rate", "deadline_ms"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000])
def test_what_is_no_number_is_refused(field: str, number: str) -> None:
    header = a_request(**{field: 123456789})[0].replace(b"123456789", number.encode())
    error = refusal([header, a_request()[1]])
    assert error.code == "bad_request"
    assert len(str(error)) < 1000


@pytest.mark.parametrize("change", [-25, -24, -1, 1, 8, 1000])
def test_a_frame_of_another_size_is_refused_and_named(change: int) -> None:
    header, channels = a_request()
    error = refusal([header, (channels + bytes(1000))[: len(channels) + change]])
    assert (error.code, "channels" in str(error), "192" in str(error)) == ("bad_request", True, True)
    labels = refusal([a_request(near_field=True)[0], channels, bytes(max(0, 6 + change))])
    assert (labels.code, "near_field" in str(labels)) == ("bad_request", True)


def test_a_frame_too_many_or_too_few_is_refused() -> None:
    header, channels = a_request()
    status = json.dumps({"v": 1, "id": "1", "op": "status"}).encode()
    for frames in (
        [],
        [header],
        [header, channels, bytes(6)],
        [a_request(near_field=True)[0], channels],
        [status, b""],
    ):
        assert refusal(frames).code == "bad_request"


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"{", b"null", b"3", b'"v"', b"[1]", b'{"v":1}garbage', b"\xff\xfe", b'{"v":1,"id":"\xc3"}'),
        *(b'{"v":1,"id":"\\ud800","op":"status"}\x00', b"[" * 16_000, b'{"a":' * 3000, b" " * 20_000, b"9" * 16_000),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    error = refusal([header, a_request()[1]])
    assert error.code == "bad_request"
    assert request_id([header]) is None
    encode_error(None, error)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_frames_are_refused_and_nothing_else(frames: list[bytes]) -> None:
    error = refusal(frames)
    assert error.code == "bad_request"
    name = request_id(frames)
    assert json.loads(bytes(encode_error(name, error)[0]))["id"] == name


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("v", "id", "op", "shape", "dtype", "power", "noise_power", "alpha_c", "min_rate", "convention", "scheme"),
    *("refine", "near_field", "want", "deadline_ms"),
]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=3))
def test_arbitrary_values_are_read_or_refused(fields: dict[str, Any]) -> None:
    got = read_or_refused(a_request(**fields))
    if got is None:
        return
    assert got.channels.size == 24
    assert 1e-30 <= got.budget.power <= 1e30
    assert 1e-30 <= got.budget.noise_power <= 1e30
    assert 0 < got.budget.alpha_c <= 1
    assert 0 <= got.budget.min_rate < math.inf
    assert got.deadline > 0


@given(st.binary(min_size=1, max_size=8), st.data())
def test_a_flipped_byte_does_no_harm(noise: bytes, data: st.DataObject) -> None:
    header, channels = a_request(power=2.0, want=["power"], scheme="mrt")
    place = data.draw(st.integers(0, len(header) - 1))
    frames = [header[:place] + noise + header[place + len(noise) :], channels]
    read_or_refused(frames)


def test_a_header_of_16_kib_is_read_and_a_byte_more_is_not() -> None:
    header, channels = a_request()
    longest = header + b" " * (65536 - len(header))
    assert isinstance(decode_request([longest, channels]), PrecodeRequest)
    assert request_id([longest, channels]) == "7"
    error = refusal([longest + b" ", channels])
    assert str(error) == "a header of 65537 bytes: at most 65536 are read"
    assert request_id([longest + b" ", channels]) is None


def test_problems_of_short_headers_are_kept_and_those_of_long_ones_are_not() -> None:
    """A server must not grow with lists of limits, which take a megabyte once they are decoded."""
    short, channels = a_request(weights=[1, 2])
    problems = [
        vars(decode_request([short.replace(b'"7"', identity), channels]))["problem"] for identity in (b'"8"', b'"9"')
    ]
    assert problems[0] is problems[1]
    long, channels = a_request(weights=[1, 1.0 + 1e-12])
    long = long.replace(b"1.000000000001", b"1." + b"0" * 1000 + b"1")
    assert decode_request([long, channels]) is not None
    released = weakref.ref(vars(decode_request([long, channels]))["problem"])
    assert released() is None


def test_an_id_of_128_characters_is_read_and_one_more_is_not() -> None:
    for length, expected in ((128, "x" * 128), (129, None)):
        header = a_request(id="x" * length, v=2)
        assert request_id(header) == expected
    assert decode_request(a_request(id="x" * 128)).id == "x" * 128


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"op": "status"}, "unknown field `shape`; allowed: v, id, op"),
        ({"v": 2}, "`$.v`; allowed: 1"),
        ({"op": "precod"}, "`$.op`; allowed: precode, predict, track, status"),
        ({"dtype": "float32"}, "`$.dtype`; allowed: complex64, complex128"),
        ({"convention": "x"}, "`$.convention`; allowed: hermitian, direct"),
        ({"want": ["beams"]}, f"`$.want[0]`; allowed: {', '.join(RESULT_NAMES)}"),
        ({"pover": 1}, "`pover`; allowed: v, id, op, shape, dtype, power, noise_power, alpha_c, min_rate, convention,"),
        ({"refine": 101}, "`$.refine`"),
        ({"shape": [4]}, "`$.shape`"),
    ],
)
def test_allowed_values_are_listed_for_their_field_alone(fields: dict[str, Any], ending: str) -> None:
    message = str(refusal(a_request(**fields)))
    assert message.startswith("header: ")
    assert ending in message
    assert ("allowed" in message) == ("allowed" in ending)


def test_a_long_field_is_cut_in_the_message() -> None:
    message = str(refusal(a_request(**{"x" * 5000: 1})))
    assert message.partition("; allowed: ")[0] == ("header: Object contains unknown field `" + "x" * 300)[:300]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("power", 1e40, "power must be positive and finite, within 300 dBW of 1 W, got 1e+40"),
        ("power", 0, "power must be positive and finite, within 300 dBW of 1 W, got 0"),
        ("noise_power", 1e-31, "noise_power must be positive and finite, within 300 dBW of 1 W, got 1e-31"),
        ("alpha_c", 1.5, "alpha_c must be a share of the power in (0, 1], got 1.5"),
        ("min_rate", -1, "min_rate must be a rate of at least 0 bps/Hz, finite, got -1"),
    ],
)
def test_a_link_budget_out_of_range_is_refused_by_its_rule(field: str, value: float, rule: str) -> None:
    assert str(refusal(a_request(**{field: value}))).startswith(f"header: {rule}")


@pytest.mark.parametrize(("field", "value"), [("power", 1e30), ("noise_power", 1e-30), ("alpha_c", 1), ("min_rate", 0)])
def test_the_ends_of_the_ranges_are_accepted(field: str, value: float) -> None:
    got = decode_request(a_request(**{field: value}))
    assert isinstance(got, PrecodeRequest)
    assert got.quantities[field] == value
    assert got.quantities == LinkBudget(**{field: value}).__dict__


@pytest.mark.parametrize(("value", "seconds"), [(None, math.inf), (2500, 2.5), (..., math.inf)])
def test_a_deadline_is_in_milliseconds(value: object, seconds: float) -> None:
    got = decode_request(a_request(deadline_ms=value))
    assert isinstance(got, PrecodeRequest)
    assert got.deadline == seconds
    if seconds < math.inf:
        header = json.loads(bytes(encode_request(PrecodeRequest("1", np.ones((1, 2, 4)) + 0j, deadline=seconds))[0]))
        assert header["deadline_ms"] == value


def test_refinements_up_to_a_hundred_are_accepted() -> None:
    got = decode_request(a_request(refine=100))
    assert isinstance(got, PrecodeRequest)
    assert got.refine == 100


def test_requests_of_one_kind_keep_their_identifiers_deadlines_and_channels() -> None:
    for number in range(3):
        sent = PrecodeRequest(f"{number}", np.full((1, 2, 4), number + 1, np.complex64), deadline=1.0 + number)
        got = decode_request(encode_request(sent))
        assert isinstance(got, PrecodeRequest)
        assert (got.id, got.deadline, got.channels[0, 0, 0]) == (f"{number}", 1 + number, 1 + number)


def test_a_weight_of_one_is_not_the_flag_of_a_frame_of_weights() -> None:
    channels = np.ones((1, 1, 4), np.complex64).tobytes()
    for weights, frames in ((1.0, [channels]), (True, [channels, np.array([3.0]).tobytes()]), (1.0, [channels])):
        header = {"v": 1, "id": "1", "op": "precode", "shape": [4, 1, 1], "weights": weights}
        got = decode_request([json.dumps(header).encode(), *frames])
        assert isinstance(got, PrecodeRequest)
        given = got.problem.weights
        assert given is None or given.reshape(-1).tolist() == [3 if weights is True else 1]


def test_any_byte_but_zero_is_a_near_field_label() -> None:
    got = decode_request([a_request(near_field=True)[0], a_request()[1], bytes([0, 1, 2, 255, 0, 1])])
    assert isinstance(got, PrecodeRequest)
    assert got.near_field is not None
    assert got.near_field.tolist() == [[False, True], [True, True], [False, True]]


def test_a_status_request_has_no_other_fields() -> None:
    header = json.dumps({"v": 1, "id": "1", "op": "status", "power": 1}).encode()
    assert "unknown field `power`" in str(refusal([header]))


def test_sizes_of_frames_are_stated() -> None:
    header, channels = a_request()
    status = json.dumps({"v": 1, "id": "1", "op": "status"}).encode()
    announces = "frames: this header announces"
    assert str(refusal([])).startswith("no header: ")
    assert str(refusal([header])) == f"1 {announces} 2, itself included"
    assert str(refusal([header, channels, b""])) == f"3 {announces} 2, itself included"
    assert str(refusal([a_request(near_field=True)[0], channels])) == f"2 {announces} 3, itself included"
    assert str(refusal([status, b""])) == f"2 {announces} 1, itself included"
    expected = "channels: 4 x 2 x 3 of complex64 are 192 bytes, the frame has 191"
    assert str(refusal([header, channels[:-1]])) == expected
    labels = refusal([a_request(near_field=True)[0], channels, bytes(5)])
    assert str(labels) == "near_field: 2 x 3 of uint8 are 6 bytes, the frame has 5"
    double = a_request(dtype="complex128")
    assert "of complex128 are 384 bytes, the frame has 192" in str(refusal(double))


def test_the_largest_sizes_are_counted_without_overflow() -> None:
    error = refusal(a_request(shape=[2**31 - 1] * 3))
    assert f"are {8 * (2**31 - 1) ** 3} bytes" in str(error)
    assert "`$.shape[0]`" in str(refusal(a_request(shape=[2**31, 1, 1])))


# Answers


@pytest.mark.parametrize("drops", [1, 40])
def test_arrays_of_an_answer_are_views_that_cannot_be_written(drops: int) -> None:
    """Small frames are copies, large ones views of what was computed; either can be read only."""
    arrays = some_arrays(np.random.default_rng(0), drops, 16, 128)
    request = PrecodeRequest("1", np.ones((drops, 16, 128), np.complex64))
    frames = encode_answer(request, arrays, {}, {})
    assert isinstance(frames[1], memoryview if drops > 1 else bytes)
    reply = decode_reply([bytes(frame) for frame in frames])
    for name, array in reply.arrays.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert not array.flags.writeable


def test_headers_state_no_defaults() -> None:
    request = PrecodeRequest("1", np.ones((3, 2, 4), np.complex64))
    header = json.loads(bytes(encode_request(request)[0]))
    assert header == {"op": "precode", "v": 1, "id": "1", "shape": [4, 2, 3], "dtype": "complex64"}
    assert json.loads(bytes(encode_status("1", {})[0])) == {"v": 1, "id": "1", "ok": True}


def some_arrays(rng: np.random.Generator, drops: int, users: int, antennas: int) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in RESULT_NAMES:
        if name == "precoder":
            shape = (drops, users, antennas)
            arrays[name] = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
        else:
            values = rng.standard_normal((drops,) if name in PER_DROP else (drops, users))
            arrays[name] = values > 0 if name in BOOLEAN else values
    return arrays


@given(
    ids,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    st.lists(st.sampled_from(RESULT_NAMES), min_size=1, unique=True),
    st.integers(0, 99),
)
def test_answer_is_what_the_protocol_says(name: str, shape: tuple[int, int, int], want: list[Any], seed: int) -> None:
    drops, users, antennas = shape
    arrays = some_arrays(np.random.default_rng(seed), *shape)
    request = PrecodeRequest(name, np.ones(shape, np.complex64), want=tuple(want))
    info = {"scheme": "mrt", "model": "", "power": 0.1}
    timing = {"queue": 1, "compute": 2, "total": 3}
    header, *frames = [bytes(frame) for frame in encode_answer(request, arrays, info, timing)]

    told = json.loads(header)
    described = told.pop("arrays")
    assert told == {"v": 1, "id": name, "ok": True, "info": info, "timing_us": timing}
    assert [entry["name"] for entry in described] == want
    for entry, frame in zip(described, frames, strict=True):
        per_drop = [1, drops] if entry["name"] in PER_DROP else [users, drops]
        assert entry["shape"] == ([antennas, users, drops] if entry["name"] == "precoder" else per_drop)
        kind = "complex64" if entry["name"] == "precoder" else "bool" if entry["name"] in BOOLEAN else "float64"
        assert entry["dtype"] == kind
        # As MATLAB reads it: a column-major array of that shape; a value a drop is a row.
        seen = np.frombuffer(frame, np.dtype(kind).newbyteorder("<")).reshape(entry["shape"], order="F")
        np.testing.assert_array_equal(seen.T.reshape(arrays[entry["name"]].shape), arrays[entry["name"]])

    reply = decode_reply([header, *frames])
    assert (reply.id, reply.info, reply.timing_us, reply.error) == (name, info, timing, None)
    assert list(reply.arrays) == want
    for key in want:
        np.testing.assert_array_equal(reply.arrays[key], arrays[key])
        assert reply.arrays[key].dtype == arrays[key].dtype
    if len(want) == len(RESULT_NAMES):
        np.testing.assert_array_equal(Result.from_arrays(reply.arrays).uplink_power, arrays["lambda"])


@given(st.none() | ids, st.sampled_from(["bad_request", "busy", "internal"]), ids)
def test_error_and_status_answers(name: str | None, code: str, message: str) -> None:
    frames = encode_error(name, WireError(code, message))
    message = printable(message)
    told = {"v": 1, "id": name, "ok": False, "error": {"code": code, "message": message}}
    assert json.loads(bytes(frames[0])) == told
    reply = decode_reply([json.dumps(told).encode()])
    assert reply.error is not None
    assert (reply.id, reply.error.code, str(reply.error), reply.arrays) == (name, code, message, {})

    status = {"queue_depth": 3, "counts": {"errors": {"busy": 1}}, "latency_us": {}}
    frames = encode_status(name or "", status)
    told = json.loads(bytes(frames[0]))
    assert (told["ok"], told["id"], told["status"], told.get("arrays", [])) == (True, name or "", status, [])
    assert decode_reply([json.dumps(told | {"arrays": []}).encode()]).status == status


@given(st.lists(st.binary(max_size=100), max_size=4))
@example([b'{"v":1,"id":"1","ok":true,"arrays":[{"name":"power","shape":[2,2],"dtype":"float64"}]}', b"short"])
@example([b'{"v":1,"id":"1","ok":true,"arrays":[{"name":"power","shape":[-1,1],"dtype":"object"}]}', b"12345678"])
@example([b'{"v":1,"id":"1","ok":true,"arrays":[]}', b"one too many"])
def test_no_answer_of_ours_is_a_wire_error(frames: list[bytes]) -> None:
    with pytest.raises(WireError) as caught:
        decode_reply(frames)
    assert caught.value.code == "bad_reply"


# Envelopes

PEER = b"\x00\x80\x00\x41\xa7"  # as a ROUTER names those who chose no name


@pytest.mark.parametrize(
    ("received", "envelope"),
    [
        ([PEER, b"", b"header", b"channels"], [PEER, b""]),
        ([PEER, b"header", b"channels"], [PEER]),
        ([PEER, b"header"], [PEER]),
        ([PEER, b"\x00\x01\x02\x03\x04", b"", b"header", b"channels"], [PEER, b"\x00\x01\x02\x03\x04", b""]),
        ([PEER, b"proxy", b"proxy", b"", b"header", b"c", b"l"], [PEER, b"proxy", b"proxy", b""]),
        ([PEER], [PEER]),
        ([PEER, b""], [PEER, b""]),
        ([PEER, b"", b"", b""], [PEER, b""]),
        ([PEER, *[b"p"] * 6, b"", b"header"], [PEER, *[b"p"] * 6, b""]),
        ([PEER, *[b"p"] * 7, b"", b"header"], [PEER]),
    ],
    ids=["req", "dealer", "status", "proxied", "twice proxied", "nothing", "empty", "many empty", "deep", "too deep"],
)
def test_envelope_of_each_kind_of_peer(received: list[bytes], envelope: list[bytes]) -> None:
    assert split_envelope(received) == (envelope, received[len(envelope) :])


def test_an_envelope_is_bounded() -> None:
    """What comes back with an answer is at most as long as ZeroMQ's own routing identities."""
    long, longest = b"x" * 256, b"x" * 255
    assert split_envelope([b"peer", longest, b"", b"{}"]) == ([b"peer", longest, b""], [b"{}"])
    assert split_envelope([b"peer", b"a", long, b"", b"{}"]) == ([b"peer"], [b"a", long, b"", b"{}"])


def test_an_answer_keeps_no_other_answers_of_its_batch() -> None:
    batch = np.zeros((4, 16, 1024), np.complex64)
    request = PrecodeRequest("1", batch[1:2], want=("precoder",))
    _, frame = encode_answer(request, {"precoder": batch[1:2]}, {}, {})
    assert len(frame) == batch[1:2].nbytes >= 1 << 16
    assert not np.shares_memory(np.frombuffer(frame, np.uint8), batch)
    request = PrecodeRequest("1", batch, want=("precoder",))
    _, frame = encode_answer(request, {"precoder": batch}, {}, {})
    assert np.shares_memory(np.frombuffer(frame, np.uint8), batch)


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=20))
def test_envelope_and_message_are_the_frames_received(frames: list[bytes]) -> None:
    envelope, message = split_envelope(frames)
    assert envelope + message == frames
    assert envelope[0] == frames[0]


@pytest.mark.parametrize(
    ("mode", "size", "returned"),
    [
        ("each", (2, 6, 4), ()),
        ("strongest", (2, 3, 4), ("receive_combiner",)),
        ("eigen", (2, 3, 4), ("receive_combiner",)),
    ],
)
def test_receive_antennas_are_the_second_axis_in_matlab_order(
    mode: Any, size: tuple[int, ...], returned: tuple[str, ...]
) -> None:
    matlab = (np.arange(48) * (1 + 2j)).astype(np.complex64).reshape(4, 2, 3, 2, order="F")  # N x R x K x S
    header = {"v": 1, "id": "r", "op": "precode", "shape": [4, 2, 3, 2], "receive_antennas": mode, "want": ["rate"]}
    request = decode_request([json.dumps(header).encode(), matlab.tobytes(order="F")])
    assert isinstance(request, PrecodeRequest)
    assert np.array_equal(request.channels, matlab.transpose(3, 2, 1, 0))
    assert (request.size, request.returned) == (size, ("rate", *returned))
    again = decode_request(encode_request(request))
    assert isinstance(again, PrecodeRequest)
    assert np.array_equal(again.channels, request.channels)
    arrays = {"rate": np.zeros(size[:2]), "receive_combiner": np.ones((2, 3, 2), np.complex64)}
    described = json.loads(encode_answer(request, arrays, {}, {})[0])["arrays"]
    assert [entry["name"] for entry in described] == ["rate", *returned]
    assert [entry["shape"] for entry in described][1:] == [[2, 3, 2]] * len(returned)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": [4, 2, 3, 2]}, "expected antennas, users, drops; receive_antennas adds the second of four axes"),
        ({"shape": [4, 2], "receive_antennas": "each"}, "expected antennas, receive antennas, users, drops"),
        ({"shape": [4, 2, 3], "receive_antennas": "mrc"}, "each, strongest, eigen"),
    ],
)
def test_receive_antennas_and_the_number_of_axes_agree(header: dict[str, Any], message: str) -> None:
    frame = json.dumps({"v": 1, "id": "r", "op": "precode"} | header).encode()
    with pytest.raises(WireError, match=message):
        decode_request([frame, b""])
