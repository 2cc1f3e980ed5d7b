"""Describe a feedback link by the parameters known to both ends, and choose its snapshot codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, cast, get_args

from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import ArrayGeometry, parse_geometry
from simulator.csi.feedback.loop import SEQUENCE_BITS, PredictorName
from simulator.csi.feedback.polar import Polar
from simulator.csi.feedback.type2 import TypeTwo

CodecName: TypeAlias = Literal["type2", "polar", "rest", "auto"]
CODECS: tuple[str, ...] = get_args(CodecName)
PREDICTORS: tuple[str, ...] = get_args(PredictorName)
MOST_BITS = 4096
_LEAST_REST_BITS = 24  # level, step and a few parts


class SnapshotCodec(Protocol):
    """Code every snapshot by itself."""

    def encode(self, channels: Tensor) -> list[int]:
        """Code snapshots.

        Parameters
        ----------
        channels
            complex128 (users, antennas).

        Returns
        -------
        list of int
            One number below 2^bits per user.
        """

    def decode(self, numbers: Sequence[int]) -> Tensor:
        """Invert `encode` as far as the bits allow.

        Parameters
        ----------
        numbers
            One per user.

        Returns
        -------
        Tensor
            complex128 (users, antennas).
        """


@dataclass(frozen=True)
class FeedbackFormat:
    """Hold the parameters of a feedback link, known to both ends.

    Parameters
    ----------
    bits
        B, bits per user and report, all included.
    antennas
        N.
    codec
        ``type2`` or ``polar``: every snapshot by itself; ``rest``: closed loop over successive snapshots, resets by
        ``polar``; ``auto``: the same, resets by the better of ``type2`` and ``polar``, which one bit of them says.
    geometry
        Line or panel.
    predictor
        ``ar`` or ``hold``, for ``rest`` and ``auto``.
    reference
        Norm that is fed back as 0 dB, at least the largest ||h||.

    Raises
    ------
    NflaeError
        If a value is not valid, or the bits are too few; the message states the least number.
    """

    bits: int
    antennas: int
    codec: CodecName = "auto"
    geometry: ArrayGeometry = ArrayGeometry("line")  # noqa: RUF009 - frozen
    predictor: PredictorName = "ar"
    reference: float = 1.0

    def __post_init__(self) -> None:
        codec_name(self.codec)
        predictor_name(self.predictor)
        if self.geometry.kind == "none":
            raise NflaeError("feedback needs the geometry of the array: line or panel:ROWSxCOLUMNS")
        if self.antennas < 2:
            raise NflaeError(f"feedback needs at least 2 antennas, the channels have {self.antennas}")
        self.geometry.check(self.antennas)
        if not (self.reference > 0 and math.isfinite(self.reference)):
            raise NflaeError(f"the reference norm of feedback must be positive and finite, got {self.reference:g}")
        least = self.least_bits()
        if not least <= self.bits <= MOST_BITS:
            raise NflaeError(
                f"feedback of {self.bits} bits: codec {self.codec} with {self.antennas} antennas needs at least {least}"
                f" bits per user and report, at most {MOST_BITS}"
            )

    @property
    def has_memory(self) -> bool:
        """True if reports depend on those before."""
        return self.codec in ("rest", "auto")

    @property
    def bytes(self) -> int:
        """Bytes per report."""
        return -(-self.bits // 8)

    def least_bits(self) -> int:
        """Return the least number of bits per report for the codec and the array."""
        polar = Polar.least_bits(self.antennas, self.geometry)
        type2 = TypeTwo.least_bits(self.antennas, self.geometry)
        if self.codec == "type2":
            return type2
        if self.codec == "polar":
            return polar
        snapshot = polar if self.codec == "rest" else max(polar, type2) + 1
        return SEQUENCE_BITS + max(snapshot, _LEAST_REST_BITS)

    def snapshot_codecs(self) -> tuple[SnapshotCodec, ...]:
        """Return the codecs of snapshots by themselves; with two, the first bit after the sequence number says which.

        Returns
        -------
        tuple of SnapshotCodec
            One or two codecs.
        """
        bits = self.bits - (SEQUENCE_BITS if self.has_memory else 0) - (self.codec == "auto")
        polar = Polar(bits, self.antennas, self.geometry, self.reference)
        type2 = TypeTwo(bits, self.antennas, self.geometry, self.reference)
        if self.codec == "auto":
            return (type2, polar)
        return (type2,) if self.codec == "type2" else (polar,)


def codec_name(text: str) -> CodecName:
    """Check the name of a codec.

    Parameters
    ----------
    text
        Name.

    Returns
    -------
    str
        The name.

    Raises
    ------
    NflaeError
        If there is no such codec; the message lists them.
    """
    if text not in CODECS:
        raise NflaeError(f"no feedback codec {text[:60]!r}: there are {', '.join(CODECS)}")
    return cast(CodecName, text)


def predictor_name(text: str) -> PredictorName:
    """Check the name of a predictor.

    Parameters
    ----------
    text
        Name.

    Returns
    -------
    str
        The name.

    Raises
    ------
    NflaeError
        If there is no such predictor; the message lists them.
    """
    if text not in PREDICTORS:
        raise NflaeError(f"no feedback predictor {text[:60]!r}: there are {', '.join(PREDICTORS)}")
    return cast(PredictorName, text)


def parse_format(
    bits: int, antennas: int, codec: str, predictor: str, geometry: str, reference: float
) -> FeedbackFormat:
    """Describe a feedback link by texts as in files and at the command line.

    Parameters
    ----------
    bits, antennas
        B and N.
    codec, predictor, geometry
        Names, and ``"line"`` or ``"panel:ROWSxCOLUMNS"``.
    reference
        Norm of 0 dB.

    Returns
    -------
    FeedbackFormat

    Raises
    ------
    NflaeError
        If a value is not valid.
    """
    return FeedbackFormat(
        bits, antennas, codec_name(codec), parse_geometry(geometry), predictor_name(predictor), reference
    )
