"""Feed NumPy arrays of channels back in a given number of bits, and decode the reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import checked
from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.labelled import ArrayResult, LabelledArray, LabelledSet
from matlab_io.reading.arrays import read_array
from nflae_bridge.files.validation import first_bad_drop

if TYPE_CHECKING:
    from simulator.csi.feedback.codec import FeedbackFormat


@dataclass(frozen=True, eq=False, repr=False)
class Feedback(ArrayResult):
    """Hold reports and the CSI that follows from them; two results are equal only if they are one object.

    Parameters
    ----------
    reports : numpy.ndarray
        uint8, (snapshots, users, ceil(B / 8)); the first bit of a report is the highest of its first byte.
    channels : numpy.ndarray
        CSI of the decoder, complex64 (snapshots, users, antennas), in a common phase per user that is not fed back.
    csi_error_db : numpy.ndarray
        Energy of the error, the common phase removed, over that of the channel, dB, float64 (snapshots, users).
    sgcs : numpy.ndarray
        Squared generalised cosine similarity |g^H h|^2 / (||g||^2 ||h||^2), float64 (snapshots, users).
    link : FeedbackFormat
        Parameters that the decoder needs beside the reports.
    """

    reports: npt.NDArray[np.uint8]
    channels: npt.NDArray[np.complex64]
    csi_error_db: npt.NDArray[np.float64]
    sgcs: npt.NDArray[np.float64]
    link: FeedbackFormat

    def labelled(self) -> LabelledSet:
        """Return the arrays with the names of their axes."""
        users = ("snapshot", "user")
        error, similarity = "energy of the error over that of the channel", "squared generalised cosine similarity"
        arrays = (
            LabelledArray("reports", (*users, "byte"), self.reports, "", "reports, the first bit highest"),
            LabelledArray("channels", (*users, "antenna"), self.channels, "", "CSI of the decoder"),
            LabelledArray("csi_error_db", users, self.csi_error_db, "dB", error),
            LabelledArray("sgcs", users, self.sgcs, "", similarity),
        )
        return LabelledSet(arrays, {}, {"bits": self.link.bits, "codec": self.link.codec})


@checked()
def feedback(
    channels: npt.ArrayLike,
    bits: int,
    *,
    codec: str = "auto",
    predictor: str = "ar",
    geometry: str = "line",
    reference: float | None = None,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
) -> Feedback:
    """Code successive channels of several users with B bits per user and report.

    Parameters
    ----------
    channels : array_like
        Complex, (snapshots, users, antennas), oldest first.
    bits : int
        B, all bits included.
    codec : {"auto", "type2", "polar", "rest"}
        See `simulator.csi.feedback.codec.FeedbackFormat`.
    predictor : {"ar", "hold"}
        Predictor that both ends share, for ``"rest"`` and ``"auto"``.
    geometry : str
        ``"line"`` or ``"panel:ROWSxCOLUMNS"``.
    reference : float, optional
        Norm that is fed back as 0 dB; by default the largest of the channels.
    layout, convention, receive_antennas : str, optional
        As for `nflae_bridge.precode`; the drops are the snapshots.

    Returns
    -------
    Feedback

    Raises
    ------
    NflaeError
        If bits are too few, an argument does not fit, or a channel is zero, NaN or infinite; users counted from 1.
    """
    _check_predictor(codec, predictor)
    snapshots = _checked_snapshots(channels, layout, convention, receive_antennas)
    try:
        import torch

        from simulator.csi.feedback.codec import parse_format
        from simulator.csi.feedback.ends import FeedbackEncoder, csi_error_db, missed_share
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.feedback") from error
    largest = float(np.linalg.norm(snapshots.astype(np.complex128), axis=-1).max()) if reference is None else reference
    link = parse_format(bits, snapshots.shape[-1], codec, predictor, geometry, largest)
    encoder, given = FeedbackEncoder(link, snapshots.shape[1]), torch.from_numpy(snapshots)
    coded = [encoder.encode(each) for each in given]
    return Feedback(
        np.stack([reports for reports, _ in coded]),
        torch.stack([csi for _, csi in coded]).numpy(),
        torch.stack([csi_error_db(true, csi) for true, (_, csi) in zip(given, coded, strict=True)]).numpy(),
        torch.stack([1 - missed_share(true, csi) for true, (_, csi) in zip(given, coded, strict=True)]).numpy(),
        link,
    )


def _check_predictor(codec: str, predictor: str) -> None:
    """Refuse a predictor with a codec without memory; reports of earlier versions may state one."""
    if predictor != "ar" and codec in ("type2", "polar"):
        raise NflaeError(f"predictor={predictor!r} is for codecs 'rest' and 'auto'; leave it out with codec={codec!r}")


def _checked_snapshots(
    channels: npt.ArrayLike, layout: str | None, convention: str | None, receive_antennas: str | None
) -> npt.NDArray[np.complex64]:
    """Return the snapshots, complex64 (snapshots, users, antennas); raise NflaeError for NaN, Inf and zero channels."""
    snapshots, _ = read_array(channels, layout, convention, receive_antennas)
    bad = first_bad_drop(snapshots)
    if bad is not None:
        raise NflaeError(f"channels: drop {bad.drop + 1}, {bad.describe()}")
    return snapshots


@checked()
def decode_feedback(
    reports: npt.ArrayLike, link: FeedbackFormat, received: npt.ArrayLike | None = None
) -> npt.NDArray[np.complex64]:
    """Decode successive reports of several users.

    Parameters
    ----------
    reports : array_like
        uint8, (snapshots, users, ceil(B / 8)), the first of each user a reset, as `feedback` returns them.
    link : FeedbackFormat
        Parameters of the encoder, `Feedback.link`.
    received : array_like, optional
        Reports that have arrived, bool (snapshots, users); by default all. For a missing report, and for those after it
        until the user's next reset, the user's last CSI is held; before the first reset that arrives it is zero.

    Returns
    -------
    numpy.ndarray
        CSI, complex64 (snapshots, users, antennas).

    Raises
    ------
    NflaeError
        If the reports do not fit the link; without `received` also if a report is missing.
    """
    packed = np.asarray(reports)
    if packed.ndim != 3 or packed.dtype != np.uint8:
        raise NflaeError(f"reports must be uint8 (snapshots, users, bytes), got {packed.dtype} of shape {packed.shape}")
    arrived = None if received is None else np.asarray(received, np.bool_)
    if arrived is not None and arrived.shape != packed.shape[:2]:
        raise NflaeError(f"received must be bool (snapshots, users) = {packed.shape[:2]}, got shape {arrived.shape}")
    try:
        from simulator.csi.feedback.ends import FeedbackDecoder
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.decode_feedback") from error
    decoder = FeedbackDecoder(link, packed.shape[1], "error" if arrived is None else "hold")
    csi = np.empty((*packed.shape[:2], link.antennas), np.complex64)
    for place, report in enumerate(packed):
        csi[place] = decoder.decode(report, None if arrived is None else arrived[place]).numpy()
    return csi
