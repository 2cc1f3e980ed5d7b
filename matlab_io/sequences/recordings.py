"""Write and read the recordings of one sample: pictures, radar maps, point clouds and channels.

By the name of their column in the table: ``unit1_rgb`` pictures as PNG, ``unit1_lidar`` points as PLY, ``unit1_radar``
and ``unit1_csi`` arrays as ``.mat`` with the variable ``data`` or ``H``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import find_arrays
from matlab_io.errors import MatFileError
from matlab_io.sequences.pictures import png_bytes, read_picture
from matlab_io.sequences.points import ply_bytes, read_points
from matlab_io.writing.level_writer import LevelWriter

__all__ = ["read_recording", "write_recording"]

_FOLDERS = {"rgb": "camera_data", "radar": "radar_data", "lidar": "lidar_data", "csi": "csi_data"}
_VARIABLES = {"radar": "data", "csi": "H"}
_PICTURES = (".png", ".jpg", ".jpeg")


def write_recording(folder: Path, column: str, sample: int, values: npt.NDArray[Any]) -> str:
    """Write one recording and return its path relative to the folder of the table.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the table.
    column : str
        Column, e.g. ``unit1_rgb``.
    sample : int
        Number of the sample, from 1.
    values : numpy.ndarray
        Picture, uint8; points, (points, 3); or array in MATLAB's axis order.

    Returns
    -------
    str
        Path as in the table.
    """
    unit, _, modality = column.partition("_")
    stem = f"{unit}/{_FOLDERS[modality]}/{column}_{sample}"
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    if modality in _VARIABLES:
        path = folder / f"{stem}.mat"
        path.touch()
        writer = LevelWriter(path, "6")
        writer.begin([], {_VARIABLES[modality]: values})
        writer.finish()
        return f"./{stem}.mat"
    suffix, content = (".png", png_bytes(values)) if modality == "rgb" else (".ply", ply_bytes(values))
    (folder / f"{stem}{suffix}").write_bytes(content)
    return f"./{stem}{suffix}"


def read_recording(path: Path) -> npt.NDArray[Any]:
    """Read one recording; its kind follows from the suffix.

    Parameters
    ----------
    path : pathlib.Path
        ``.png``, ``.jpg``, ``.ply``, ``.mat`` or ``.npy``.

    Returns
    -------
    numpy.ndarray
        Picture, uint8 (rows, columns[, 3]); points, float32 (points, 3); or the only array of a ``.mat`` or ``.npy``
        file, in its axis order.

    Raises
    ------
    MatFileError
        If the file is damaged, of another kind, or holds no array or several.
    """
    suffix = path.suffix.lower()
    if suffix in _PICTURES:
        return read_picture(path)
    if suffix == ".ply":
        return read_points(path)
    if suffix == ".npy":
        return np.asarray(next(iter(find_arrays(path, lambda _: True).values())).T)
    if suffix != ".mat":
        kinds = ", ".join((*_PICTURES, ".ply", ".mat", ".npy"))
        raise MatFileError(f"{path}: no recording of a known kind; expected {kinds}")
    arrays = find_arrays(path, lambda _: True)
    if len(arrays) != 1:
        raise MatFileError(f"{path}: holds {len(arrays)} numeric arrays; expected one recording")
    return next(iter(arrays.values()))
