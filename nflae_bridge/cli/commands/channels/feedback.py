"""Implement ``nflae feedback``: the channels of a file through a feedback link of few bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import ChannelOptions, channel_options, refuse_options
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import fact, progress, warn

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.csi.feedback_file import FeedbackSummary
    from simulator.csi.feedback.codec import FeedbackFormat


@click.command(
    "feedback",
    short_help="Feed the channels of a file back in a few bits.",
    epilog="""\b
    Examples:
      nflae simulate -o walk.mat --source cdl --users 6 --antennas 64 --slots 20 --slot-ms 1 --speed 3
      nflae feedback walk.mat -o csi.mat --bits 64
      nflae feedback walk.mat -o csi.mat --bits 64 --codec type2
      nflae feedback panel.mat -o csi.mat --bits 80 --geometry panel:8x8
      nflae feedback --decode csi.mat -o again.mat                the CSI from the bits alone
      nflae precode csi.mat -o w.mat                              precoders for the CSI fed back

    \b
    Codecs:
      type2   every snapshot by itself: orthogonal beams, amplitudes, phases (as Type II of 3GPP)
      polar   every snapshot by itself: plane and spherical waves
      rest    what a prediction leaves over that both ends compute from the CSI they share; polar at a reset
      auto    as rest, the resets by type2 or polar, whichever is better

    \b
    Variables of OUT.mat (MATLAB order; N antennas, K users, S snapshots):
      H                      N x K x S, the CSI fed back, in the convention of IN.mat: direct, K first
      bits                   ceil(BITS/8) x K x S uint8, the reports, first bit highest
      csi_error_db, sgcs     K x S, error without its common phase; squared cosine similarity
      nflae_info             struct, with the parameters of the link
    With subcarriers, S is replaced by F x S: one report per user and subcarrier.

    \b
    All bits are counted: sequence number, norm, gains. The phase common to a user's antennas is not fed back, as no
    precoder depends on it.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.mat",
    help="File of the reports and the CSI; replaced once they are complete.",
)
@click.option("--bits", type=click.IntRange(min=1), help="Bits per user and report.")
@click.option(
    "--codec",
    type=click.Choice(["auto", "type2", "polar", "rest"]),
    default="auto",
    show_default=True,
    help="How channels are coded, see below.",
)
@click.option(
    "--predictor",
    type=click.Choice(["ar", "hold"]),
    default="ar",
    show_default=True,
    help="Predictor of rest and auto: vector autoregression, or the last CSI held.",
)
@click.option(
    "--geometry",
    default="line",
    show_default=True,
    metavar="line|panel:RxC",
    help="Arrangement of the antennas.",
)
@click.option("--decode", is_flag=True, help="Decode the bits of IN.mat, a file of this command, to CSI.")
@channel_options
@click.option("--mat-version", type=click.Choice(["6", "7", "7.3"]), help="Version of OUT.mat.  [default: of IN.mat]")
def command(
    source: Path,
    output: Path,
    bits: int | None,
    codec: str,
    predictor: str,
    geometry: str,
    decode: bool,
    reading: ChannelOptions,
    mat_version: str | None,
) -> None:
    """Code the successive channels in IN.mat with BITS bits per user and report, and decode them.

    Each user codes its channels, snapshot by snapshot, into reports; the base station has the CSI that follows from
    them. The drops of IN.mat are snapshots in order; where they are not, every report is a reset.
    """
    refuse_mat_version(output)
    if decode:
        _decode(source, output, mat_version)
        return
    if codec in ("type2", "polar"):
        refuse_options(f"is for codecs rest and auto: leave it out with --codec {codec}.", ("predictor",))
    if bits is None:
        raise click.UsageError("--bits is missing: the bits per user and report, e.g. --bits 64")
    with reading.open(source) as file:
        for note in file.notes:
            fact("channels", note)

        from nflae_bridge.engine.devices import drops_per_block
        from nflae_bridge.files.csi.feedback_file import encode_file, largest_norm
        from simulator.csi.feedback.codec import parse_format

        parse_format(bits, file.antennas, codec, predictor, geometry, 1.0)  # before the channels are read
        reference, notes = largest_norm(file, drops_per_block(file.users, file.antennas))
        for note in notes:
            warn(f"{file.path}: {file.variable}: {note}")
        link = parse_format(bits, file.antennas, codec, predictor, geometry, reference)
        fact("feedback", f"{bits} bits per user and report, codec {codec}, {link.geometry}{_prediction(link)}")
        with progress("feed back", file.drops, "drops") as advance:
            summary = encode_file(file, output, link, mat_version, _values(file), advance)
    _report(summary, link)
    fact("written", f"{output} (version {summary.version})")


def _decode(source: Path, output: Path, version: str | None) -> None:
    """Decode reports; options of coding and reading are refused, as the file states all of them."""
    from nflae_bridge.files.csi.feedback_file import decode_file

    remedy = "is not for --decode: the file of the reports states it"
    refuse_options(remedy, but=("source", "output", "decode", "mat_version"))
    written, link = decode_file(source, output, version)
    fact("feedback", f"{link.bits} bits per user and report, codec {link.codec}, {link.geometry}{_prediction(link)}")
    fact("written", f"{output} (version {written})")


def _prediction(link: FeedbackFormat) -> str:
    return f", predictor {link.predictor}" if link.has_memory else ""


def _values(file: ChannelFile) -> dict[str, Value]:
    """Return the link budget of the input, for `nflae precode`, and the origin of the channels."""
    from matlab_io.version import __version__
    from nflae_bridge.files.budget.carried import carried_budget
    from nflae_bridge.files.slots import SlotAxis, slot_seconds

    info: dict[str, Value] = {"version": __version__, "input": str(file.path), "variable": file.variable}
    axis = SlotAxis.of(file)
    values = carried_budget(file, axis.by_slot().reshape(-1), (*axis.subcarrier_axes, axis.slots), warn)
    seconds = slot_seconds(file)
    if seconds is not None:
        values["slot_seconds"] = seconds
        info["drop_axis"] = "time"
    return values | {"nflae_info": info}


def _report(summary: FeedbackSummary, link: FeedbackFormat) -> None:
    import math

    fact("CSI error", f"{10 * math.log10(max(summary.error / summary.reports, 1e-30)):.1f} dB (mean of all reports)")
    fact("similarity", f"{summary.sgcs / summary.reports:.4f} (SGCS, mean of all reports)")
    if not link.has_memory:
        return
    fact("resets", f"{summary.resets} of {summary.reports} reports")
    if 2 * summary.resets > summary.reports:
        warn(
            "most reports are resets: the drops are no sequence in time, or each user has few; codec polar does as well"
        )
