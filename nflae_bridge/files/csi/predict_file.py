"""Predict the channels that follow the snapshots of a channel file, and write them to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.result import PREDICTION_ARRAYS
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, version_for
from nflae_bridge.files.csi.path_units import PathUnits
from nflae_bridge.files.csi.prediction import USED_METHODS, FilePredictor, PredictedDrops
from nflae_bridge.files.slots import Indices

__all__ = ["PredictionSummary", "predict_file"]


@dataclass
class PredictionSummary:
    """Sum up what was predicted.

    Attributes
    ----------
    version : str
        Version of the file written.
    predicted : int
        Slots after which was predicted.
    series : int
        Histories, one per slot, subcarrier and user.
    methods : dict of str to int
        Number of histories by the method used.
    error : numpy.ndarray
        Sum over histories of the estimated relative error, linear, float64 (ahead,); NaN if unknown.
    notes : dict of str to None
        Lines to be shown to the user, in their order.
    """

    version: str
    predicted: int = 0
    series: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    error: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, found: PredictedDrops, slots: int) -> None:
        """Add the drops of a block.

        Parameters
        ----------
        found : PredictedDrops
            The predictions.
        slots : int
            Slots after which was predicted.
        """
        self.predicted += slots
        self.series += found.method.size
        for index, count in zip(*np.unique(found.method, return_counts=True), strict=True):
            self.methods[USED_METHODS[index]] = self.methods.get(USED_METHODS[index], 0) + int(count)
        self.error = self.error + (10 ** (found.csi_error_db / 10)).sum((0, 2))
        self.notes |= dict.fromkeys(found.notes)

    @property
    def mean_error_db(self) -> npt.NDArray[np.float64]:
        """Return the estimated CSI error for each number of snapshots ahead, mean over histories, dB, (ahead,)."""
        return np.asarray(10 * np.log10(self.error / self.series))


def predict_file(
    file: ChannelFile,
    output: Path,
    predictor: FilePredictor,
    *,
    rolling: bool,
    batch: int,
    version: str | None,
    values: Mapping[str, Value],
    advance: Callable[[int, str], None],
    units: PathUnits = PathUnits(),  # noqa: B008 - frozen
) -> PredictionSummary:
    """Write the snapshots predicted after the last slot of a file, or after every slot.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    output : Path
        File to write, in the convention of the input: H, csi_error_db and method, see `PREDICTION_ARRAYS`. Their drop
        axes are the input's subcarriers, the snapshots ahead and, if rolling, the slots. Where paths are found, those
        of `PATH_ARRAYS` whose unit is known, with the slots as drop axis if rolling.
    predictor : FilePredictor
        Predictor of the file.
    rolling : bool
        Predict after every slot.
    batch : int
        Slots predicted at a time.
    version : str or None
        Version of the output; None for that of the input.
    values : mapping of str to Value
        Further variables.
    advance : callable
        Function of the number of slots done and a note, called after each block.
    units : PathUnits
        Units of the paths.

    Returns
    -------
    PredictionSummary

    Raises
    ------
    NflaeError
        As `FilePredictor`, and if the output cannot be written.
    """
    summary = PredictionSummary(version_for(output, version or file.version))
    out = _begun_output(file, output, summary.version, values, *_axes(predictor, file, rolling, units))
    try:
        for start, drops, found in _blocks(predictor, rolling, batch):
            out.write(start * predictor.ahead, _arrays(found, drops, predictor, file))
            if found.paths is not None:
                out.write(summary.predicted, units.values(found.paths))
            summary.add(found, len(drops) * predictor.axis.slots // file.drops)
            advance(summary.predicted, "")
    except BaseException:
        out.discard()
        raise
    out.commit()
    return summary


def _axes(predictor: FilePredictor, file: ChannelFile, rolling: bool, units: PathUnits) -> tuple[list[DropArray], str]:
    """Return the arrays of the output, in the convention of the input, and the layout of H."""
    subcarriers, slots = predictor.axis.subcarrier_axes, (predictor.axis.slots,) if rolling else ()
    sizes = (*subcarriers, predictor.ahead, *slots)
    arrays = [DropArray(each.name, _block(each.axes, file), sizes, each.dtype) for each in PREDICTION_ARRAYS]
    if predictor.finds_paths:
        arrays += units.arrays(file.users, slots)
    antennas = "n" * len(file.antenna_axes)
    layout = f"k{antennas}" if file.convention == "direct" else f"{antennas}k"
    return arrays, layout + "f" * len(subcarriers) + ("ss" if rolling else "s")


def _begun_output(
    file: ChannelFile, output: Path, version: str, values: Mapping[str, Value], arrays: list[DropArray], layout: str
) -> MatOutput:
    """Begin the file to write, in the convention of the input."""
    stated: dict[str, Value] = {"layout": layout, "convention": file.convention}
    out = MatOutput(output, version, arrays, stated | dict(values), [file.path])
    out.begin()
    return out


def _blocks(predictor: FilePredictor, rolling: bool, batch: int) -> Iterator[tuple[int, Indices, PredictedDrops]]:
    """Yield the number of drops before successive slots, their drops, all subcarriers together, and the predictions."""
    by_slot = predictor.axis.by_slot()[0 if rolling else -1 :]
    for slot in range(0, len(by_slot), batch):
        drops = by_slot[slot : slot + batch].reshape(-1)
        yield by_slot[:slot].size, drops, predictor(drops)


def _block(axes: str, file: ChannelFile) -> tuple[int, ...]:
    if axes == "k":
        return (file.users,)
    direct = file.convention == "direct"
    return (file.users, *file.antenna_axes) if direct else (*file.antenna_axes, file.users)


def _arrays(
    found: PredictedDrops, drops: Indices, predictor: FilePredictor, file: ChannelFile
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays in the order of the output: subcarriers, then snapshots ahead, then slots."""
    subcarriers = int(np.prod(predictor.axis.subcarrier_axes, dtype=np.int64))

    def ordered(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        split = values.reshape(len(drops) // subcarriers, subcarriers, predictor.ahead, *values.shape[2:])
        return split.swapaxes(1, 2).reshape(-1, *values.shape[2:])

    channels = ordered(found.channels)
    if file.convention == "direct":
        channels = channels.conj().swapaxes(1, 2)
    channels = channels.reshape(len(channels), *reversed(_block("nk", file)))
    method = np.repeat(found.method[:, None] + 1.0, predictor.ahead, axis=1)
    return {
        "H": np.ascontiguousarray(channels),
        "csi_error_db": np.ascontiguousarray(ordered(found.csi_error_db)),
        "method": np.ascontiguousarray(ordered(method)),
    }
