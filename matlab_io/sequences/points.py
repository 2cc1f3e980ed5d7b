"""Write and read point clouds as PLY.

References
----------
G. Turk, "The PLY polygon file format", Stanford University, 1994.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import reading

__all__ = ["ply_bytes", "read_points"]

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


def ply_bytes(points: npt.NDArray[np.float32]) -> bytes:
    """Return points as PLY, little-endian single.

    Parameters
    ----------
    points : numpy.ndarray
        Coordinates x, y and z, (points, 3), m.

    Returns
    -------
    bytes
    """
    names = "".join(f"property float {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{names}end_header\n"
    return head.encode() + np.ascontiguousarray(points, "<f4").tobytes()


def read_points(path: Path) -> npt.NDArray[np.float32]:
    """Read the coordinates of the points of a PLY file.

    Parameters
    ----------
    path : pathlib.Path
        File, text or binary, whose first element is ``vertex`` with x, y and z.

    Returns
    -------
    numpy.ndarray
        float32 (points, 3).

    Raises
    ------
    MatFileError
        If the file is damaged or holds no such points.
    """
    with reading(path):
        head, end, data = path.read_bytes().partition(b"end_header\n")
        lines = [line.split() for line in head.decode("ascii").splitlines()]
        order = next((line[1] for line in lines if line[:1] == ["format"]), "")
        elements = [at for at, line in enumerate(lines) if line[:1] == ["element"]]
        if not end or lines[0] != ["ply"] or order not in _ORDERS or lines[elements[0]][1] != "vertex":
            raise ValueError("no PLY file with points")
        count = int(lines[elements[0]][2])
        last = elements[1] if len(elements) > 1 else len(lines)
        names = [(line[2], _TYPES[line[1]]) for line in lines[elements[0] : last] if line[0] == "property"]
        columns = [[name for name, _ in names].index(axis) for axis in "xyz"]
        if order == "ascii":
            numbers = np.array(data.split()[: count * len(names)], np.float64).reshape(count, len(names))
            return np.asarray(numbers[:, columns], np.float32)
        kind = np.dtype([(name, _ORDERS[order] + each) for name, each in names])
        table = np.frombuffer(data, kind, count)
        return np.stack([np.asarray(table[axis], np.float32) for axis in "xyz"], -1)
