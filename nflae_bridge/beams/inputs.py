"""Prepare the inputs of the network from windows: values per past sample, and which of them are present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.beams.located import corrected_positions
from nflae_bridge.beams.recordings import RECORDED
from nflae_bridge.network.encoders.senses.config import InputConfig
from nflae_bridge.network.encoders.senses.vision import vision_features
from simulator.beams.bearings import bearings
from simulator.beams.centroids import centroid, normalised_db
from simulator.beams.windows import Windows

__all__ = ["INPUTS", "available", "configure", "prepare"]

Values = npt.NDArray[np.float32]

_FLOOR_DB = -10.0
_MOVED = 10.0  # times the deviation of positions over that of displacements


@dataclass(frozen=True)
class _Input:
    """Hold the encoder of an input and the functions that find and convert its values."""

    encoder: str
    found: Callable[[Windows], bool]
    values: Callable[[Windows], npt.NDArray[np.floating]]


def _powers(windows: Windows) -> Values:
    """Return powers in dB, from -1 to 1 over the last 10 dB."""
    return np.asarray(normalised_db(windows.past, _FLOOR_DB) * (2 / -_FLOOR_DB) + 1, np.float32)


def _beams(windows: Windows) -> Values:
    """Return the strongest beam as a unit vector, and the real-valued beam from -1 to 1."""
    best = np.eye(windows.beams, dtype=np.float32)[windows.past.argmax(-1)]
    return np.concatenate([best, (2 * centroid(windows.past) / windows.beams - 1)[..., None]], -1).astype(np.float32)


def _positions(windows: Windows) -> npt.NDArray[np.float64]:
    assert windows.position is not None
    return _placed(windows.position)


def _located(windows: Windows) -> npt.NDArray[np.float64]:
    """Return `_placed` of the positions that are corrected by a moving object."""
    assert windows.position is not None
    return _placed(corrected_positions(windows.position, windows.past_values("located")))


def _has_heights(windows: Windows) -> bool:
    return windows.position is not None and windows.position.shape[-1] == 3


def _placed(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return bearings or positions, and those relative to the last one that is present, ten times."""
    position = bearings(positions)
    here = np.asarray(np.isfinite(position).all(-1))
    last = position.shape[1] - 1 - np.argmax(here[:, ::-1], 1)
    end = position[np.arange(len(position)), last][:, None]
    return np.concatenate([position, _MOVED * (position - end)], -1)


def _prompt(windows: Windows) -> Values:
    """Return a summary of the past beams for all its samples: first, last, least, largest, mean, slope, deviation."""
    beam = 2 * centroid(windows.past) / windows.beams - 1
    time = np.linspace(-1, 1, beam.shape[1])
    slope = ((beam - beam.mean(1, keepdims=True)) @ time) / (time @ time)
    parts = [beam[:, 0], beam[:, -1], beam.min(1), beam.max(1), beam.mean(1), slope, beam.std(1)]
    return np.repeat(np.stack(parts, -1)[:, None], beam.shape[1], 1).astype(np.float32)


def _recorded(name: str, encoder: str) -> _Input:
    return _Input(encoder, lambda windows: name in windows.recorded, lambda windows: windows.past_values(name))


INPUTS = {
    "power": _Input("vector", lambda windows: True, _powers),
    "beam": _Input("vector", lambda windows: True, _beams),
    "prompt": _Input("vector", lambda windows: True, _prompt),
    "position": _Input("vector", lambda windows: windows.position is not None, _positions),
    **{name: _recorded(name, each.encoder) for name, each in RECORDED.items()},
    "located": _Input("vector", lambda windows: _has_heights(windows) and "located" in windows.recorded, _located),
}
_PLACES = ("position", "located")


def available(windows: Windows) -> list[str]:
    """Return the names of the inputs that windows have.

    Parameters
    ----------
    windows
        The windows.

    Returns
    -------
    list of str
    """
    return [name for name, each in INPUTS.items() if each.found(windows)]


def _values(name: str, vision: str | None, windows: Windows) -> npt.NDArray[np.floating]:
    """Return the values of an input, or features of its pictures, which are computed once per sample."""
    if vision is None:
        return INPUTS[name].values(windows)
    samples = windows.first[:, None] + np.arange(windows.past.shape[1])
    used, index = np.unique(samples, return_inverse=True)
    return np.asarray(vision_features(vision, windows.recorded[name][used])[index.reshape(samples.shape)])


def configure(names: Sequence[str], windows: Windows, vision: str | None = None) -> tuple[InputConfig, ...]:
    """Return the configurations of inputs, with the scale of positions in the training windows.

    Parameters
    ----------
    names
        Names of the inputs.
    windows
        Training windows.
    vision
        Local folder of the vision model of the inputs that have one.

    Returns
    -------
    tuple of InputConfig

    Raises
    ------
    NflaeError
        If the windows lack one of the inputs.
    """
    configs = []
    for name in names:
        if name not in available(windows):
            raise NflaeError(
                f"input {name}: the folders have none of it; there are {', '.join(available(windows))}: leave it out of"
                " --inputs"
            )
        encoder = INPUTS[name].encoder
        source = vision if encoder == "vision" else None
        values = _values(name, source, windows)
        config = InputConfig(name, encoder, tuple(values.shape[2:]), source)  # type: ignore[arg-type]
        if name in _PLACES:
            flat = values.reshape(-1, 2, values.shape[-1] // 2)[:, 0]
            centre, spread = np.nanmean(flat, 0), np.maximum(np.nanstd(flat, 0), 1e-6)
            config = replace(
                config,
                centre=(*map(float, centre), *map(float, 0 * centre)),
                spread=(*map(float, spread), *map(float, spread)),
            )
        configs.append(config)
    return tuple(configs)


def prepare(
    configs: Sequence[InputConfig], windows: Windows, missing: Sequence[str] = ()
) -> tuple[list[Values], npt.NDArray[np.bool_]]:
    """Return values of the inputs, 0 where absent, and which samples of them are present.

    Parameters
    ----------
    configs
        The inputs.
    windows
        The windows.
    missing
        Names of inputs that are taken as absent though the windows have them.

    Returns
    -------
    values : list of numpy.ndarray
        float32 (windows, past, *shape) per input.
    present : numpy.ndarray
        bool (windows, past, inputs).
    """
    past = windows.past.shape[1]
    found, present = [], np.zeros((len(windows), past, len(configs)), np.bool_)
    for index, config in enumerate(configs):
        values = np.zeros((len(windows), past, *config.shape), np.float32)
        if config.name not in missing and INPUTS[config.name].found(windows):
            read = _values(config.name, config.source, windows)
            here = np.isfinite(read).reshape(*read.shape[:2], -1).all(-1)
            values = np.where(here.reshape(here.shape + (1,) * len(config.shape)), read, 0).astype(np.float32)
            present[..., index] = here
        found.append(values)
    return found, present
