"""Model CSI that is fed back in a given number of bits per user and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, parse_geometry
from simulator.csi.feedback.codec import CodecName, FeedbackFormat, codec_name
from simulator.csi.feedback.ends import FeedbackEncoder
from simulator.csi.models import CsiContext, Stage, whole_number
from simulator.csi.registry import register

_REPORTS = 12  # of a closed loop, the first a reset


@dataclass(frozen=True)
class FedBackCsi:
    """`CsiPart` that codes and decodes every user's snapshots, see `simulator.csi.feedback`.

    A codec with memory codes 12 successive snapshots, the first as a reset. The norm of each user is fed back relative
    to the largest of the drop's snapshots.

    Parameters
    ----------
    bits
        Bits per user and report.
    codec
        Codec.
    geometry
        Line or panel.
    """

    bits: int
    codec: CodecName = "auto"
    geometry: ArrayGeometry = ArrayGeometry("line")  # noqa: RUF009 - frozen
    stage = Stage.FEEDBACK
    slots = 0

    @property
    def history(self) -> int:
        """Successive snapshots that are fed back."""
        return _REPORTS if self.codec in ("rest", "auto") else 1

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`."""
        drops, count, users, antennas = snapshots.shape
        norms = torch.linalg.vector_norm(snapshots, dim=-1)
        reference = norms.amax((1, 2)).clamp(min=torch.finfo(norms.dtype).tiny)
        unit = snapshots / reference[:, None, None, None]
        link = FeedbackFormat(self.bits, antennas, self.codec, self.geometry)
        encoder = FeedbackEncoder(link, drops * users)
        known = [
            encoder.encode(unit[:, time].reshape(-1, antennas))[1].reshape(drops, users, antennas)
            for time in range(count)
        ]
        result: Tensor = torch.stack(known, 1) * reference[:, None, None, None]
        return result

    def __str__(self) -> str:
        options = [str(self.bits), self.codec] + ([] if self.geometry.kind == "line" else [str(self.geometry)])
        return f"feedback:{','.join(options)}"


@register("feedback", form="feedback:BITS[,CODEC][,GEOMETRY]")
def feedback(arguments: Sequence[str]) -> FedBackCsi:
    """Parse CSI that is fed back.

    Parameters
    ----------
    arguments
        Bits per user and report; a codec, ``auto`` unless given; ``line`` or ``panel:RxC``, ``line`` unless given.

    Returns
    -------
    FedBackCsi
        The part.
    """
    bits = whole_number(arguments[:1], 1)
    codec: CodecName = "auto"
    geometry = ArrayGeometry("line")
    for text in arguments[1:]:
        if text.startswith(("line", "panel", "none")):
            geometry = parse_geometry(text)
        else:
            codec = codec_name(text)
    return FedBackCsi(bits, codec, geometry)
