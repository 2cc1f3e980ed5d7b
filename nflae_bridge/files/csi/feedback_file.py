"""Feed the channels of a file back: reports and CSI to another file, and the CSI from the reports alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io import ChannelFile
from matlab_io.containers.contents import detect_version, find_arrays, read_text
from matlab_io.errors import NflaeError
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, version_for
from nflae_bridge.engine.devices import single_thread
from nflae_bridge.files.blocks import describe_bad_drop, drop_name
from nflae_bridge.files.budget.carried import stated_budget
from nflae_bridge.files.slots import Indices, SlotAxis
from nflae_bridge.files.validation import fault_of, good_drops
from simulator.csi.feedback.codec import FeedbackFormat, parse_format
from simulator.csi.feedback.ends import FeedbackDecoder, FeedbackEncoder, csi_error_db, is_reset, missed_share
from simulator.csi.feedback.quantisers import NORM_LEVELS, NORM_STEP_DB

__all__ = ["FeedbackSummary", "decode_file", "encode_file", "largest_norm"]

Advance = Callable[[int, str], None]
_WEAKEST_DB = NORM_STEP_DB * (NORM_LEVELS - 1)
_TEXTS = ("codec", "predictor", "geometry", "convention", "layout")
_NUMBERS = ("feedback_bits", "reference", "antennas")


@dataclass
class FeedbackSummary:
    """Sum up what was fed back.

    Attributes
    ----------
    version : str
        Version of the file written.
    reports : int
        Number of reports.
    resets : int
        Reports that hold a snapshot by itself.
    sgcs, error : float
        Sums over reports of the similarity and of the relative error, linear.
    """

    version: str
    reports: int = 0
    resets: int = 0
    sgcs: float = 0.0
    error: float = 0.0


def largest_norm(file: ChannelFile, batch: int) -> tuple[float, list[str]]:
    """Compute the largest norm of a user's channel in a file, and check all channels.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    batch : int
        Drops read at a time.

    Returns
    -------
    largest : float
        Largest ||h||.
    notes : list of str
        Lines to be shown to the user: a channel weaker than the weakest norm that can be fed back.

    Raises
    ------
    NflaeError
        For the first drop with a NaN, Inf or all-zero channel.
    """
    largest, weakest, place = 0.0, math.inf, (0, 0)
    for start in range(0, file.drops, batch):
        channels = file.read(start, min(start + batch, file.drops))
        good = good_drops(channels)
        if not good.all():
            first = int(np.flatnonzero(~good)[0])
            raise NflaeError(describe_bad_drop(file, fault_of(channels[first], start + first), can_skip=False))
        norms = np.linalg.norm(channels.astype(np.complex128), axis=-1)
        largest = max(largest, float(norms.max()))
        if norms.min() < weakest:
            weakest = float(norms.min())
            drop, user = np.unravel_index(int(norms.argmin()), norms.shape)
            place = (start + int(drop), int(user))
    below = 20 * math.log10(largest / weakest)
    if below <= _WEAKEST_DB:
        return largest, []
    where = f"{drop_name(file, place[0])}, user {place[1] + 1}"
    return largest, [
        f"{where}: {below:.1f} dB below the strongest channel; a reset feeds norms back down to {_WEAKEST_DB:g} dB"
        " below it, so weaker users are taken for stronger ones"
    ]


def encode_file(
    file: ChannelFile,
    output: Path,
    link: FeedbackFormat,
    version: str | None,
    values: Mapping[str, Value],
    advance: Advance,
) -> FeedbackSummary:
    """Write the reports of a file's channels, and the CSI that a decoder has of them.

    Parameters
    ----------
    file : ChannelFile
        Open file; its drops are snapshots in order.
    output : Path
        File to write, in the layout and convention of the input: ``H``, ``bits``, ``csi_error_db`` and ``sgcs``.
    link : FeedbackFormat
        Parameters of the link.
    version : str or None
        Version of the output; None for that of the input.
    values : mapping of str to Value
        Further variables; the parameters of the link join ``nflae_info``.
    advance : callable
        Function of the number of slots done and a note.

    Returns
    -------
    FeedbackSummary

    Raises
    ------
    NflaeError
        If the file has several axes of drops or the output cannot be written.
    """
    axis = SlotAxis.of(file)
    slots = axis.by_slot()
    encoder = FeedbackEncoder(link, slots.shape[1] * file.users)
    written = version_for(output, version or file.version)
    summary = FeedbackSummary(written)
    out = MatOutput(output, written, _report_arrays(file, axis, link), _stated(file, axis, link, values), [file.path])
    out.begin()
    try:
        with single_thread():
            for slot, members in enumerate(slots):
                out.write(slot * len(members), _encode_slot(file, members, encoder, summary))
                advance(slot + 1, "")
    except BaseException:
        out.discard()
        raise
    out.commit()
    return summary


def _report_arrays(file: ChannelFile, axis: SlotAxis, link: FeedbackFormat) -> list[DropArray]:
    """Return the variables per drop of the output."""
    direct, drops = file.convention == "direct", (*axis.subcarrier_axes, axis.slots)
    return [
        DropArray("H", _channel_block(file.antenna_axes, file.users, direct), drops, np.dtype(np.complex64)),
        DropArray("bits", (link.bytes, file.users), drops, np.dtype(np.uint8)),
        DropArray("csi_error_db", (file.users,), drops, np.dtype(np.float64)),
        DropArray("sgcs", (file.users,), drops, np.dtype(np.float64)),
    ]


def _encode_slot(
    file: ChannelFile, members: Indices, encoder: FeedbackEncoder, summary: FeedbackSummary
) -> dict[str, npt.NDArray[Any]]:
    """Code the drops of one slot, add them to the summary and return their variables."""
    channels = torch.from_numpy(_read(file, members)).flatten(0, 1)
    reports, csi = encoder.encode(channels)
    error, sgcs = csi_error_db(channels, csi), 1 - missed_share(channels, csi)
    summary.reports += len(reports)
    summary.resets += int(is_reset(reports, encoder.link).sum())
    summary.sgcs += float(sgcs.sum())
    summary.error += float((10 ** (error.double() / 10)).sum())
    per_drop = (len(members), file.users)
    found = csi.numpy().reshape(*per_drop, file.antennas)
    return {
        "H": _stored(found, file.antenna_axes, file.convention == "direct"),
        "bits": reports.reshape(*per_drop, encoder.link.bytes),
        "csi_error_db": error.double().numpy().reshape(per_drop),
        "sgcs": sgcs.double().numpy().reshape(per_drop),
    }


def decode_file(source: Path, output: Path, version: str | None) -> tuple[str, FeedbackFormat]:
    """Write the CSI that follows from the reports in a file, read from ``bits`` and ``nflae_info`` only.

    The link budget and the time between slots are those that the file states.

    Parameters
    ----------
    source : Path
        File of `encode_file`.
    output : Path
        File to write: ``H`` in the layout and convention of the channels that were fed back.
    version : str or None
        Version of the output; None for that of the source.

    Returns
    -------
    version : str
        Version of the file written.
    link : FeedbackFormat
        Parameters of the link.

    Raises
    ------
    NflaeError
        If the file has no reports or their parameters are missing, a report is out of step, or the output cannot be
        written.
    """
    reports, link, texts, antenna_axes = _read_reports(source)
    size, users, *drop_axes = reports.shape
    if size != link.bytes:
        raise NflaeError(f"{source}: bits has {size} bytes per report, expected {link.bytes} of {link.bits} bits")
    direct = texts["convention"] == "direct"
    drops = tuple(drop_axes) or (1,)
    array = DropArray("H", _channel_block(antenna_axes, users, direct), drops, np.dtype(np.complex64))
    written = version_for(output, version or detect_version(source))
    per_slot = reports.reshape(size, users, -1, drops[-1], order="F").transpose(3, 2, 1, 0)
    decoder = FeedbackDecoder(link, per_slot.shape[1] * users)
    budget = stated_budget(source)
    info = _parameters(link, antenna_axes) | ({"drop_axis": "time"} if "slot_seconds" in budget else {})
    values = {"layout": texts["layout"], "convention": texts["convention"], **budget, "nflae_info": info}
    out = MatOutput(output, written, [array], values, [source])
    out.begin()
    try:
        for slot, packed in enumerate(per_slot):
            try:
                csi = decoder.decode(np.ascontiguousarray(packed.reshape(-1, size)))
            except NflaeError as error:
                raise NflaeError(f"{source}: bits: drop {slot + 1}: {error}") from None
            found = csi.numpy().reshape(-1, users, link.antennas)
            out.write(slot * len(found), {"H": _stored(found, antenna_axes, direct)})
    except BaseException:
        out.discard()
        raise
    out.commit()
    return written, link


def _read_reports(
    source: Path,
) -> tuple[npt.NDArray[np.uint8], FeedbackFormat, dict[str, str], tuple[int, ...]]:
    """Return reports in MATLAB order, the link, texts of ``nflae_info`` and the sizes of the antenna axes."""
    found = find_arrays(source, lambda name: name in ("bits", *_NUMBERS, "antenna_axes"))
    missing = [name for name in ("bits", *(f"nflae_info.{name}" for name in _NUMBERS)) if name not in found]
    if missing:
        raise NflaeError(f"{source}: no variable {missing[0]}; --decode takes a file of nflae feedback")
    version = detect_version(source)
    texts = {name: read_text(source, version, f"nflae_info.{name}") for name in _TEXTS}
    bits, reference, antennas = (float(found[f"nflae_info.{name}"].reshape(-1)[0].real) for name in _NUMBERS)
    try:
        link = parse_format(int(bits), int(antennas), texts["codec"], texts["predictor"], texts["geometry"], reference)
    except NflaeError as error:
        raise NflaeError(f"{source}: nflae_info: {error}") from None
    axes = found.get("nflae_info.antenna_axes")
    antenna_axes = (int(antennas),) if axes is None else tuple(int(size) for size in axes.real.reshape(-1))
    return found["bits"].real.astype(np.uint8), link, texts, antenna_axes


def _stated(file: ChannelFile, axis: SlotAxis, link: FeedbackFormat, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return layout, convention and the parameters of the link."""
    direct = file.convention == "direct"
    antennas = "n" * len(file.antenna_axes)
    layout = (f"k{antennas}" if direct else f"{antennas}k") + "f" * len(axis.subcarrier_axes) + "s"
    given = values.get("nflae_info", {})
    assert isinstance(given, Mapping)
    info = {**given, **_parameters(link, file.antenna_axes), "layout": layout, "convention": file.convention}
    return {"layout": layout, "convention": file.convention, **values, "nflae_info": info}


def _parameters(link: FeedbackFormat, antenna_axes: tuple[int, ...]) -> dict[str, Value]:
    """Return the fields of ``nflae_info`` from which a decoder is made."""
    return {
        "codec": link.codec,
        "predictor": link.predictor,
        "geometry": str(link.geometry),
        "feedback_bits": float(link.bits),
        "reference": link.reference,
        "antennas": float(link.antennas),
        "antenna_axes": np.array(antenna_axes, np.float64),
    }


def _channel_block(antenna_axes: tuple[int, ...], users: int, direct: bool) -> tuple[int, ...]:
    return (users, *antenna_axes) if direct else (*antenna_axes, users)


def _stored(
    channels: npt.NDArray[np.complex64], antenna_axes: tuple[int, ...], direct: bool
) -> npt.NDArray[np.complex64]:
    """Return channels (drops, users, antennas) as they are written."""
    users = channels.shape[1]
    if direct:
        channels = channels.conj().swapaxes(1, 2)
    block = _channel_block(antenna_axes, users, direct)
    return np.ascontiguousarray(channels.reshape(len(channels), *reversed(block)))


def _read(file: ChannelFile, drops: Indices) -> npt.NDArray[np.complex64]:
    """Read drops in rising order, consecutive ones at once."""
    runs = np.split(drops, np.flatnonzero(np.diff(drops) > 1) + 1)
    return np.concatenate([file.read(int(run[0]), int(run[-1]) + 1) for run in runs])
