"""Describe the last drop as the page draws it: users, map or beams, and the heading."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.client.results import form_precoder
from nflae_bridge.live.view.beams import Located, curvature_grid, locate, pooled, wave_power
from nflae_bridge.live.view.sampler import Sample

if TYPE_CHECKING:
    from nflae_bridge.live.view.panel import PanelPlaces

MAX_USERS = 128
"""Largest number of users that the page lists."""

_RANGE_DB = 40.0  # of a map
_BORDER = 0.973  # beta^2 at the border of the near field, for a loss of a tenth of the amplitude
_BEAMS = 32  # largest number of beams drawn over the angle
_UNDECIDED = 0.5


@dataclass(frozen=True)
class Picture:
    """Hold a drop as it is sent to pages.

    Parameters
    ----------
    drop : dict
        All but the map, for JSON.
    maps : numpy.ndarray or None
        Power over positions, (1 + users, rings, directions), or over the directions of a panel, (1 + users, v, u): of
        all beams, then of each; None without a map.
    """

    drop: dict[str, Any]
    maps: npt.NDArray[Any] | None

    def event(self, user: int | None) -> dict[str, Any]:
        """Return the drop with the map of all beams, or of the beam of one user, counted from 0.

        Parameters
        ----------
        user : int or None
            User.

        Returns
        -------
        dict
            For JSON.
        """
        if self.maps is None:
            return self.drop
        shown = user if user is not None and 0 <= user < len(self.maps) - 1 else None
        powers = self.maps[0 if shown is None else shown + 1]
        content = _encode(_levels(powers, powers.max()))
        return self.drop | {"map": self.drop["map"] | {"levels": content, "user": shown}}


def _encode(levels: npt.NDArray[np.uint8]) -> str:
    """Encode levels in base64."""
    return base64.b64encode(levels.tobytes()).decode()


def picture_of(sample: Sample, wavelength: float, panel: tuple[int, int] | None = None) -> Picture:
    """Describe a drop.

    Parameters
    ----------
    sample : Sample
        The drop; values that the answer does not hold are computed where they follow from others.
    wavelength : float
        Wavelength of the carrier of the array, m; NaN for beams over the angle.
    panel : tuple of int, optional
        Rows and columns of a panel; None for a line.

    Returns
    -------
    Picture
        The drop as drawn.
    """
    channels = _user_channels(sample)
    beams, weights = _beams(sample, channels)
    power = _per_user(sample, "power")
    rate = _rates(sample, channels, beams, weights)
    located, drop = None, dict(sample.info)
    users = max(len(each) for each in (power, rate, *(() if channels is None else (channels,))))
    notes = [] if beams is not None else ["the answer holds no precoders: no beams are drawn"]
    antennas = sample.channels.shape[-1]
    if panel is not None and panel[0] * panel[1] != antennas:
        text = "--http-array panel:{}x{} has {} antennas, the channels {}: no beams are drawn"
        notes, beams, channels = [text.format(*panel, panel[0] * panel[1], antennas)], None, None
    if channels is not None:
        located = _locate(channels, 3 * users, wavelength, panel)
    places = [] if located is None else located.describe()
    drop["users"] = [
        _user(sample, user, power, rate) | (places[user] if user < len(places) else {})
        for user in range(min(users, MAX_USERS))
    ]
    drop["sum_rate"] = _number(np.nansum(rate) if len(rate) else math.nan)
    if users > MAX_USERS:
        notes.append(f"{users} users, of which {MAX_USERS} are listed")
    for name in ("feasible", "fallback"):
        if name in sample.arrays:
            drop[name] = bool(np.ravel(sample.arrays[name])[-1])
    maps = None
    if beams is not None:
        seen = beams.conj() if located is not None and located.conjugated else beams
        amplitudes = (seen * np.sqrt(weights[:, :, None])).astype(np.complex64)
        described, maps = (
            _map(amplitudes, wavelength) if panel is None else _panel_map(amplitudes, located, panel, wavelength)
        )
        drop |= described
    return Picture(drop | {"notes": notes}, maps)


def _locate(
    channels: npt.NDArray[Any], vectors: int, wavelength: float, panel: tuple[int, int] | None
) -> Located | PanelPlaces:
    """Locate users on the map of a line or of a panel."""
    if panel is None:
        return locate(channels, curvature_grid(channels.shape[1], vectors))
    from nflae_bridge.live.view.panel import locate_on_panel, panel_of

    return locate_on_panel(channels, panel_of(panel, wavelength))


def _user_channels(sample: Sample) -> npt.NDArray[Any] | None:
    """Return h_k of each user, (users, antennas), of the strongest receive antenna; None where they are unusable."""
    channels = np.asarray(sample.channels[-1], np.complex64)
    if channels.ndim == 3:
        users = len(sample.arrays.get("precoder", sample.channels)[-1])
        if users == channels.shape[0] * channels.shape[1]:  # each receive antenna is a user
            channels = channels.reshape(users, -1)
        else:
            strongest = (np.abs(channels) ** 2).sum(-1).argmax(-1)
            channels = channels[np.arange(len(channels)), strongest]
    usable = channels.ndim == 2 and np.isfinite(channels).all() and (np.abs(channels) > 0).any(-1).all()
    if not usable:
        return None
    return channels.conj() if sample.direct else channels


def _beams(
    sample: Sample, channels: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[np.float64]]:
    """Return the precoders, complex (users, streams, antennas), and their powers, (users, streams)."""
    precoder, power, dual = (sample.arrays.get(name) for name in ("precoder", "power", "lambda"))
    if precoder is None and dual is not None and channels is not None and "problem" not in sample.info:
        precoder = form_precoder(channels[None], np.asarray(dual[-1:], float) / sample.noise_power)
    if precoder is None or power is None or not (np.isfinite(precoder[-1]).all() and np.isfinite(power[-1]).all()):
        return None, np.zeros((0, 0))
    users, antennas = len(precoder[-1]), precoder.shape[-1]
    return precoder[-1].reshape(users, -1, antennas), np.asarray(power[-1], float).reshape(users, -1)


def _per_user(sample: Sample, name: str) -> npt.NDArray[np.float64]:
    """Return a quantity per user, summed over the streams; empty where the answer does not hold it."""
    values = sample.arrays.get(name)
    if values is None:
        return np.zeros(0)
    per_user: npt.NDArray[np.float64] = np.asarray(values[-1], float).reshape(len(values[-1]), -1).sum(1)
    return per_user


def _rates(
    sample: Sample,
    channels: npt.NDArray[Any] | None,
    beams: npt.NDArray[Any] | None,
    weights: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the rates, bps/Hz: those of the answer, else those that follow from channels and precoders."""
    if "rate" in sample.arrays or channels is None or beams is None or beams.shape[::2] != channels.shape:
        return _per_user(sample, "rate")
    if beams.shape[1] > 1 or np.ndim(sample.channels) > 3:
        return np.zeros(0)
    gains = np.abs(channels.conj() @ beams[:, 0].T) ** 2 * weights[:, 0]
    own = np.diagonal(gains)
    return np.asarray(np.log2(1 + own / (gains.sum(1) - own + sample.noise_power)))


def _user(sample: Sample, user: int, power: npt.NDArray[Any], rate: npt.NDArray[Any]) -> dict[str, Any]:
    """Describe a user."""
    found: dict[str, Any] = {
        "power": _number(power[user]) if user < len(power) else None,
        "rate": _number(rate[user]) if user < len(rate) else None,
        "label": None,
    }
    labels, scores = _per_user(sample, "near_field"), _per_user(sample, "near_field_score")
    if user < len(scores) and scores[user] == _UNDECIDED:
        found["label"] = "undecided"
    elif user < len(labels):
        found["label"] = "near" if labels[user] else "far"
    return found


def _map(beams: npt.NDArray[Any], wavelength: float) -> tuple[dict[str, Any], npt.NDArray[Any] | None]:
    """Return the map of the beams over positions, or the beams over the angle where no wavelength is stated."""
    users, streams, antennas = beams.shape
    known = not math.isnan(wavelength)
    shown = users if known else min(users, _BEAMS)
    curvatures = curvature_grid(antennas, shown * streams) if known else np.zeros(1)
    each = wave_power(beams[:shown].reshape(-1, antennas), curvatures).reshape(shown, streams, len(curvatures), -1)
    each = each[:, 0] if streams == 1 else each.sum(1)
    powers = pooled(each)
    if not known:
        curves = [_encode(levels) for levels in _levels(powers[:, 0], powers.max())]
        return {"pattern": {"curves": curves, "range_db": _RANGE_DB, "antennas": antennas}}, None
    scale = (antennas * wavelength / 2) ** 2 / (2 * wavelength)  # beta^2 r / cos^2(theta), m
    described = {
        "curvatures": [round(float(each), 4) for each in curvatures],
        "scale": scale,
        "border": scale / _BORDER,
        "range_db": _RANGE_DB,
        "antennas": antennas,
    }
    return {"map": described}, np.concatenate([pooled(each.sum(0))[None], powers])


def _panel_map(
    beams: npt.NDArray[Any], located: Any, panel: tuple[int, int], wavelength: float
) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    """Return the map of the beams over the directions of a panel, each at the distance of its user if known."""
    from nflae_bridge.live.view.panel import DIRECTIONS, direction_offset, panel_of, panel_power

    wavefronts = None if located is None or len(located.wavefront) != len(beams) else located.wavefront
    powers = panel_power(beams, wavefronts, panel_of(panel, wavelength))
    described = {
        "panel": list(panel),
        "directions": DIRECTIONS,
        "offsets": [direction_offset(panel[1]), direction_offset(panel[0])],
        "range_db": _RANGE_DB,
        "antennas": beams.shape[2],
    }
    return {"map": described}, np.concatenate([powers.sum(0)[None], powers])


def _levels(powers: npt.NDArray[Any], peak: Any) -> npt.NDArray[np.uint8]:
    """Return powers as levels from 0, -40 dB of the peak and less, to 255, the peak."""
    relative = 10 * np.log10(np.maximum(powers / np.maximum(peak, np.finfo(np.float32).tiny), 1e-9))
    return np.asarray(np.round(255 * np.clip(1 + relative / _RANGE_DB, 0, 1)), np.uint8)


def _number(value: Any) -> float | None:
    """Return a number that JSON can hold, of five digits; None for one that is not finite."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
