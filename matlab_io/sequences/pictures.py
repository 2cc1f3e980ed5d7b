"""Write and read pictures: PNG of 8 bits, and with Pillow JPEG.

References
----------
PNG (Portable Network Graphics) Specification, third edition, W3C, 2025.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError, reading

__all__ = ["png_bytes", "read_picture"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # grey, RGB, and both with opacity
_MOST_PIXELS = 1 << 26


def png_bytes(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture as PNG.

    Parameters
    ----------
    picture : numpy.ndarray
        uint8 (rows, columns), grey, or (rows, columns, 3), RGB.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        For an array of another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise ValueError(f"expected uint8 (rows, columns) or (rows, columns, 3), got {picture.dtype} {picture.shape}")
    rows, columns = picture.shape[:2]
    lines = np.zeros((rows, 1 + picture[0].size), np.uint8)  # the first byte of a line: no filter
    lines[:, 1:] = picture.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0 if picture.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture.

    Parameters
    ----------
    path : pathlib.Path
        PNG of 8 bits per channel without palette and interlacing, or, with Pillow, JPEG and other PNG.

    Returns
    -------
    numpy.ndarray
        uint8 (rows, columns), grey, or (rows, columns, 3), RGB; opacity is left out.

    Raises
    ------
    MatFileError
        If the file is damaged, or of a kind that requires Pillow where that is not installed.
    """
    with reading(path):
        content = path.read_bytes()
        if content.startswith(_SIGNATURE):
            width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
            if bits == 8 and colour in _CHANNELS and not interlaced:
                return _decoded(content, height, width, _CHANNELS[colour])
        try:
            from PIL import Image
        except ModuleNotFoundError:
            raise MatFileError(f"{path}: pictures other than plain PNG require Pillow; pip install pillow") from None
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB"))


def _decoded(content: bytes, rows: int, columns: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of a PNG."""
    if not 0 < rows * columns <= _MOST_PIXELS:
        raise ValueError(f"{columns} x {rows} pixels")
    packed, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            packed.append(content[at + 8 : at + 8 + length])
        at += 12 + length
    size = rows * (1 + columns * channels)
    data = zlib.decompressobj().decompress(b"".join(packed), size)
    lines = np.frombuffer(data, np.uint8).reshape(rows, -1)
    pixels = np.zeros((rows + 1, columns + 1, channels), np.uint8)  # a row above and a pixel at the left of zeros
    for row in range(rows):
        line = lines[row, 1:].reshape(columns, channels)
        pixels[row + 1, 1:] = _unfiltered(int(lines[row, 0]), line, pixels[row])
    picture = pixels[1:, 1:]
    return picture[..., 0] if channels < 3 else picture[..., :3]


def _unfiltered(kind: int, line: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Undo the filter of a line, (columns, channels); ``above`` has one pixel more at the left."""
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line, 0, dtype=np.uint8)
    if kind == 2:
        return line + above[1:]
    if kind not in (3, 4):
        raise ValueError(f"filter {kind}")
    out = np.zeros((len(line) + 1, line.shape[1]), np.int32)
    upper = above.astype(np.int32)
    for at in range(len(line)):
        left, up, corner = out[at], upper[at + 1], upper[at]
        if kind == 3:
            expected = (left + up) // 2
        else:
            far = [np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)]
            expected = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], up, corner))
        out[at + 1] = (line[at] + expected) & 255
    return out[1:].astype(np.uint8)
