"""Codecs against hand-computed reports, enumerations, and decoders that see the bits only."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry
from simulator.csi.feedback.codec import FeedbackFormat
from simulator.csi.feedback.digits import (
    join_digits,
    pack_reports,
    split_digits,
    subset_of_rank,
    subset_rank,
    unpack_reports,
)
from simulator.csi.feedback.ends import FeedbackDecoder, FeedbackEncoder, FeedbackOutOfStep, missed_share
from simulator.csi.feedback.entropy import FrequencyTable, SymbolReader, encode_symbols
from simulator.csi.feedback.polar import Polar
from simulator.csi.feedback.type2 import TypeTwo
from simulator.csi.models import CsiContext, parse_csi

LINE = ArrayGeometry("line")


def waves(antennas: int, *paths: tuple[float, float, complex]) -> torch.Tensor:
    """Sum spherical waves (direction in beams, curvature, gain), the formula of `simulator.schemes.codebooks`."""
    n = np.arange(antennas)
    x = (n - (antennas - 1) / 2) / antennas
    total = sum(g * np.exp(2j * np.pi * (m * n / antennas - q * x**2)) for m, q, g in paths)
    return torch.from_numpy(np.asarray(total) / math.sqrt(antennas))[None]


def moving(users: int, antennas: int, snapshots: int, seed: int, doppler: float = 0.03) -> torch.Tensor:
    """Return channels of 3 paths each with constant Doppler shifts, complex128 (snapshots, users, antennas)."""
    r = np.random.default_rng(seed)
    direction, curvature = r.uniform(0, antennas, (users, 3)), r.uniform(0, antennas / 16, (users, 3))
    gain = r.normal(size=(users, 3)) + 1j * r.normal(size=(users, 3))
    shift = r.uniform(-doppler, doppler, (users, 3))
    n = np.arange(antennas)
    x = (n - (antennas - 1) / 2) / antennas
    shape = np.exp(2j * np.pi * (direction[..., None] * n / antennas - curvature[..., None] * x**2))
    time = np.exp(2j * np.pi * shift * np.arange(snapshots)[:, None, None])
    channels = np.einsum("tkp,kp,kpn->tkn", time, gain, shape)
    return torch.from_numpy(channels / np.linalg.norm(channels, axis=-1).max())


@pytest.mark.parametrize(("size", "count"), [(7, 3), (6, 1), (5, 5), (9, 4)])
def test_ranks_enumerate_the_subsets_of_itertools(size, count):
    subsets = sorted(combinations(range(size), count), key=lambda members: members[::-1])
    assert [subset_rank(members, size) for members in subsets] == list(range(math.comb(size, count)))
    assert [tuple(subset_of_rank(rank, count, size)) for rank in range(len(subsets))] == subsets


def test_digits_and_bytes_are_those_of_int():
    assert join_digits([3, 5, 7], [10, 10, 10]) == 357
    assert split_digits(59, [24, 60]) == [0, 59]
    assert pack_reports([0b1_0000_0001, 3], 9).tolist() == [[0b1000_0000, 0b1000_0000], [0b0000_0001, 0b1000_0000]]
    assert unpack_reports(pack_reports([257, 3], 9), 9) == [257, 3]


@given(
    st.lists(st.integers(0, 3), max_size=60), st.lists(st.floats(1e-6, 1.0), min_size=4, max_size=4), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_symbols_come_back_within_their_information(symbols, probabilities, spare):
    table = FrequencyTable.of(probabilities)
    assert sum(table.frequencies) == 2**16
    information = sum(16 - math.log2(table.frequencies[symbol]) for symbol in symbols)
    bits = math.ceil(information + 0.05) + spare
    number = encode_symbols(symbols, [table] * len(symbols), bits)
    assert 0 <= number < 2**bits
    reader = SymbolReader(number, bits)
    assert [reader.read(table) for _ in symbols] == symbols


def test_symbols_that_do_not_fit_are_refused():
    with pytest.raises(NflaeError, match="do not fit into 9 bits"):
        encode_symbols([1] * 10, [FrequencyTable.of([0.5, 0.5])] * 10, 9)


def test_type2_report_by_hand():
    # Beams 5 and 2 of the grid rotated by half a beam, the second -6 dB and +90 degrees; norm sqrt(1.25) x 0.5.
    channel = 0.5 * waves(8, (5.5, 0, 1), (2.5, 0, 10 ** (-6 / 20) * 1j))
    codec = TypeTwo(24, 8, LINE, 1.0)
    assert codec.beams == 2  # 5 + 2 + log2 28 + 1 + 6 = 18.8 bits; with 3: 5 + 2 + log2 56 + log2 3 + 12 = 26.4
    (number,) = codec.encode(channel)
    norm, rotation, subset, leader, amplitude, phase = split_digits(number, codec.radices)
    assert (norm, rotation, subset, leader) == (3, 2, math.comb(2, 1) + math.comb(5, 2), 1)  # -5.05 dB: level 3
    assert (amplitude, phase) == (2, 2)  # 2 x 3 dB; 2 / 8 of a turn
    decoded = codec.decode([number])
    assert float(missed_share(channel, decoded)[0]) < 1e-4
    assert float(torch.linalg.vector_norm(decoded)) == pytest.approx(10 ** (-4.5 / 20))


def test_type2_on_a_panel_finds_its_beam():
    row, column = np.exp(2j * np.pi * 1.25 * np.arange(2) / 2), np.exp(2j * np.pi * 2.75 * np.arange(4) / 4)
    channel = torch.from_numpy(np.outer(column, row).reshape(1, 8))  # antenna r + rows c
    decoded = TypeTwo(16, 8, ArrayGeometry("panel", 2, 4), 4.0)
    assert float(missed_share(channel, decoded.decode(decoded.encode(channel)))[0]) < 1e-9


def test_polar_finds_a_curved_wave_that_type2_misses():
    curvature = 3 * 0.6  # not of the dictionary
    channel = waves(64, (20.5, curvature, 1))
    polar, type2 = Polar(24, 64, LINE, 1.0), TypeTwo(24, 64, LINE, 1.0)
    assert float(missed_share(channel, polar.decode(polar.encode(channel)))[0]) < 0.25
    assert float(missed_share(channel, type2.decode(type2.encode(channel)))[0]) > 0.35


@pytest.mark.parametrize("codec", ["type2", "polar", "rest", "auto"])
def test_a_static_channels_error_falls(codec):
    channels = moving(6, 32, 1, 0)[0]
    link = FeedbackFormat(48, 32, codec, LINE, "hold")
    encoder = FeedbackEncoder(link, 6)
    errors = [missed_share(channels, encoder.encode(channels)[1].to(torch.complex128)) for _ in range(8)]
    if codec in ("rest", "auto"):
        assert all(bool((after < before + 1e-9).all()) for before, after in pairwise(errors))
        assert float(errors[-1].mean()) < float(errors[0].mean()) / 12  # 10.8 dB
    else:
        assert all(torch.equal(error, errors[0]) for error in errors)


@given(
    st.sampled_from([(8, LINE), (13, LINE), (32, LINE), (12, ArrayGeometry("panel", 3, 4))]),
    st.integers(0, 90),
    st.sampled_from(["type2", "polar", "rest", "auto"]),
    st.sampled_from(["ar", "hold"]),
    st.integers(0, 2**20),
)
@settings(max_examples=16, deadline=None)
def test_decoder_has_the_encoders_csi_from_the_bits_alone(array, extra, codec, predictor, seed):
    antennas, geometry = array
    least = FeedbackFormat(1000, antennas, codec, geometry).least_bits()
    link = FeedbackFormat(least + extra, antennas, codec, geometry, predictor)
    encoder, decoder = FeedbackEncoder(link, 3), FeedbackDecoder(link, 3)
    phases = torch.from_numpy(np.exp(2j * np.pi * np.random.default_rng(seed).uniform(size=(5, 3, 1))))
    for snapshot in moving(3, antennas, 5, seed) * phases:
        reports, reconstructed = encoder.encode(snapshot)
        assert reports.dtype == np.uint8
        assert reports.shape == (3, -(-link.bits // 8))
        padding = 8 * reports.shape[1] - link.bits
        assert not (reports[:, -1] & ((1 << padding) - 1)).any()
        assert torch.equal(decoder.decode(reports), reconstructed)


def test_closed_loop_beats_snapshots_and_ar_beats_hold():
    channels = moving(12, 64, 12, 3)
    last = {}
    for codec, predictor in (("polar", "ar"), ("rest", "hold"), ("rest", "ar")):
        encoder = FeedbackEncoder(FeedbackFormat(64, 64, codec, LINE, predictor), 12)
        for snapshot in channels:
            _, csi = encoder.encode(snapshot)
        last[codec, predictor] = float(missed_share(channels[-1], csi.to(torch.complex128)).log10().mean())
    assert last["rest", "ar"] < last["rest", "hold"] - 0.1  # 1 dB
    assert last["rest", "hold"] < last["polar", "ar"] - 0.3


def test_more_bits_never_make_the_closed_loop_worse():
    channels, errors = moving(2, 8, 8, 5), []
    for bits in (32, 64, 128, 512):
        encoder = FeedbackEncoder(FeedbackFormat(bits, 8, "rest"), 2)
        for snapshot in channels:
            _, csi = encoder.encode(snapshot)
        errors.append(float(missed_share(channels[-1], csi.to(torch.complex128)).log10().mean()))
    assert all(more < fewer + 0.1 for fewer, more in pairwise(errors))
    assert errors[-1] < -5  # -50 dB


def test_lost_report_is_detected_and_a_reset_recovers():
    channels = moving(2, 16, 6, 1)
    link = FeedbackFormat(64, 16, "rest")
    encoder, decoder = FeedbackEncoder(link, 2), FeedbackDecoder(link, 2)
    reports = [encoder.encode(snapshot)[0] for snapshot in channels[:4]]
    decoder.decode(reports[0])
    known = decoder.decode(reports[1], received=np.array([True, False]))
    with pytest.raises(FeedbackOutOfStep, match=r"user 2 is out of step: .* number 2, expected 1 or 0; reset"):
        decoder.decode(reports[2])
    held = FeedbackDecoder(link, 2, on_loss="hold")
    held.decode(reports[0])
    assert torch.equal(held.decode(reports[1], received=np.array([True, False])), known)
    after = held.decode(reports[2])
    assert torch.equal(after[1], known[1])
    assert held.out_of_step.tolist() == [False, True]
    assert not torch.equal(after[0], known[0])
    encoder.reset([1])
    packed, reconstructed = encoder.encode(channels[4])
    assert (packed[:, 0] >> 5).tolist() == [4, 0]
    held.decode(reports[3])
    assert torch.equal(held.decode(packed), reconstructed)
    assert not held.out_of_step.any()


@pytest.mark.parametrize("codec", ["rest", "auto"])
def test_a_repeated_reset_changes_nothing_at_once_and_is_out_of_step_once_it_is_late(codec):
    channels = moving(2, 16, 5, 1)
    link = FeedbackFormat(64, 16, codec)
    encoder, decoder = FeedbackEncoder(link, 2), FeedbackDecoder(link, 2)
    reset, csi = encoder.encode(channels[0])
    for _ in range(3):
        assert torch.equal(decoder.decode(reset), csi)
    for snapshot in channels[1:3]:
        reports, csi = encoder.encode(snapshot)
        assert torch.equal(decoder.decode(reports), csi)
    with pytest.raises(FeedbackOutOfStep, match="number 2, expected 3 or 0"):
        decoder.decode(reports)  # a repeated report that is no reset
    reports, csi = encoder.encode(channels[3])
    assert torch.equal(decoder.decode(reports), csi)
    decoder.decode(reset)  # starts the history anew, which the encoder does not
    late, _ = encoder.encode(channels[4])
    with pytest.raises(FeedbackOutOfStep, match="number 4, expected 1 or 0"):
        decoder.decode(late)


def test_a_decoder_that_starts_late_waits_for_a_reset():
    channels = moving(1, 16, 3, 1)
    link = FeedbackFormat(64, 16, "auto")
    encoder = FeedbackEncoder(link, 1)
    encoder.encode(channels[0])
    with pytest.raises(FeedbackOutOfStep, match=r"sequence number 1, expected 0; reset"):
        FeedbackDecoder(link, 1).decode(encoder.encode(channels[1])[0])


def test_a_new_channel_is_coded_by_a_reset():
    one, other = moving(4, 32, 1, 1)[0], moving(4, 32, 1, 2)[0]
    encoder = FeedbackEncoder(FeedbackFormat(64, 32, "rest"), 4)
    for _ in range(3):
        encoder.encode(one)
    assert (encoder.encode(other)[0][:, 0] >> 5).tolist() == [0] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 64, "type2"), "codec type2 with 64 antennas needs at least 13 bits"),
        ((20, 64, "rest"), "codec rest with 64 antennas needs at least 27 bits"),
        ((64, 64, "best"), "no feedback codec 'best': there are type2, polar, rest, auto"),
        ((64, 64, "auto", ArrayGeometry()), "needs the geometry of the array: line or panel"),
        ((64, 64, "auto", ArrayGeometry("panel", 4, 4)), "panel:4x4 has 16 antennas, the channels have 64"),
        ((64, 64, "auto", LINE, "ar", 0.0), "reference norm of feedback must be positive"),
    ],
)
def test_bad_formats_in_one_line(arguments, message):
    with pytest.raises(NflaeError, match=message):
        FeedbackFormat(*arguments)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_bad_channels_name_the_user(value):
    channels = moving(3, 16, 1, 1)[0]
    channels[1] = value
    with pytest.raises(NflaeError, match="the channel of user 2 is zero, NaN or infinite"):
        FeedbackEncoder(FeedbackFormat(64, 16, "polar"), 3).encode(channels)


def test_csi_model_feeds_back_every_user_at_its_gain():
    channels = moving(2, 16, 12, 5).to(torch.complex64) * torch.tensor([1e-5, 1e-6])[:, None]
    model = parse_csi("feedback:64,rest")
    assert str(model) == "feedback:64,rest"
    assert model.history == 12
    csi = model.estimate(channels, torch.arange(12)[None], CsiContext(torch.Generator()))
    assert csi.shape == (1, 2, 16)
    assert float(missed_share(channels[-1], csi[0]).max()) < 0.05
    gain = torch.linalg.vector_norm(csi[0], dim=1) / torch.linalg.vector_norm(channels[-1], dim=1)
    assert bool(((gain > 0.8) & (gain < 1.2)).all())
    alone = parse_csi("feedback:40,type2,panel:4x4")
    assert (str(alone), alone.history) == ("feedback:40,type2,panel:4x4", 1)
    with pytest.raises(NflaeError, match=r"no feedback codec 'fast': there are type2"):
        parse_csi("feedback:64,fast")
