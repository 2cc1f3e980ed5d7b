"""Pictures, points and arrays of single samples: equal when read back, as other programs read them, and damaged."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from matlab_io.errors import MatFileError
from matlab_io.sequences import read_folder, read_recording, write_folder
from matlab_io.sequences.pictures import png_bytes
from matlab_io.sequences.points import ply_bytes
from tests.beam_sequences import passing_users


def smooth(*shape: int) -> np.ndarray:
    steps = np.random.default_rng(0).integers(0, 9, shape)
    return np.asarray(np.cumsum(np.cumsum(steps, 0), 1).astype(np.uint8))


def png(picture: np.ndarray, filters: list[int]) -> bytes:
    """A PNG whose lines have given filters."""
    rows, columns = picture.shape[:2]
    wide = picture.reshape(rows, columns, -1).astype(int)
    lines = []
    for row in range(rows):
        kind, line = filters[row % len(filters)], bytearray()
        for column in range(columns):
            here = wide[row, column]
            left = wide[row, column - 1] if column else 0 * here
            up = wide[row - 1, column] if row else 0 * here
            corner = wide[row - 1, column - 1] if row and column else 0 * here
            for value, a, b, c in zip(here, left, up, corner, strict=True):
                paeth = min((a, b, c), key=lambda each, p=a + b - c: abs(p - each))
                expected = (0, a, b, (a + b) // 2, paeth)[kind]
                line.append(int(value - expected) % 256)
        lines.append(bytes([kind]) + bytes(line))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, {1: 0, 3: 2, 2: 4, 4: 6}[wide.shape[2]], 0, 0, 0)),
        *((b"IDAT", part) for part in np.array_split(np.frombuffer(zlib.compress(b"".join(lines)), np.uint8), 3)),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data = bytes(content)
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


@pytest.mark.parametrize("shape", [(7, 5), (6, 9, 3)])
def test_pictures_are_read_back_by_this_package_and_by_others(tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = smooth(*shape)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(picture))
    np.testing.assert_array_equal(read_recording(path), picture)
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), picture)
        opened.save(tmp_path / "b.png", optimize=True)
        opened.save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(read_recording(tmp_path / "b.png"), picture)
    assert read_recording(tmp_path / "a.jpg").shape == shape


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_filter_of_a_png_is_undone(tmp_path: Path, channels: int) -> None:
    picture = smooth(10, 6, channels)
    (tmp_path / "a.png").write_bytes(png(picture, [0, 1, 2, 3, 4]))
    expected = picture[..., 0] if channels < 3 else picture[..., :3]
    np.testing.assert_array_equal(read_recording(tmp_path / "a.png"), expected)


def test_points_are_read_from_text_and_binary_files(tmp_path: Path) -> None:
    cloud = np.random.default_rng(1).normal(size=(11, 3)).astype(np.float32)
    path = tmp_path / "a.ply"
    path.write_bytes(ply_bytes(cloud))
    np.testing.assert_array_equal(read_recording(path), cloud)
    path.write_bytes(ply_bytes(cloud[:0]))
    assert read_recording(path).shape == (0, 3)
    head = "ply\nformat {} 1.0\ncomment made\nelement vertex 11\nproperty uchar red\nproperty double z\n"
    head += "property double x\nproperty float32 y\nelement face 0\nproperty list uchar int vertex_index\nend_header\n"
    table = np.zeros(11, [("red", "u1"), ("z", ">f8"), ("x", ">f8"), ("y", ">f4")])
    table["x"], table["y"], table["z"] = cloud.T
    path.write_bytes(head.format("binary_big_endian").encode() + table.tobytes())
    np.testing.assert_array_equal(read_recording(path), cloud)
    rows = "\n".join(f"7 {z!r} {x!r} {y!r}" for x, y, z in cloud.astype(float).tolist())
    path.write_text(head.format("ascii") + rows + "\n")
    np.testing.assert_array_equal(read_recording(path), cloud)


def test_arrays_are_read_from_mat_and_npy_files(tmp_path: Path) -> None:
    data = np.random.default_rng(2).normal(size=(3, 4))
    scipy.io.savemat(tmp_path / "a.mat", {"data": data})
    np.save(tmp_path / "a.npy", data)
    for name in ("a.mat", "a.npy"):
        np.testing.assert_array_equal(read_recording(tmp_path / name), data)
    scipy.io.savemat(tmp_path / "a.mat", {"data": data, "more": data})
    with pytest.raises(MatFileError, match=r"a\.mat: holds 2 numeric arrays; expected one"):
        read_recording(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png_bytes(smooth(4, 4))[:45]),
        ("a.png", png(smooth(4, 4, 1), [0]).replace(b"IEND", b"IxND")[:60]),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.png", b"text"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n1 2 3"),
        ("a.ply", ply_bytes(np.zeros((4, 3), np.float32))[:-5]),
        ("a.ply", b""),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex -3\nproperty float x\nend_header\n"),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.npy", b"\x93NUMPY"),
        ("a.txt", b"1"),
    ],
)
def test_damaged_recordings_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MatFileError, match=name.replace(".", r"\.")) as caught:
        read_recording(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_with_recordings_is_read_back_equal(tmp_path: Path) -> None:
    made = passing_users(2, 4)
    rng = np.random.default_rng(3)
    recordings = {
        "unit1_rgb": [smooth(5, 6) + np.uint8(each) for each in range(8)],
        "unit1_radar": [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(8)],
        "unit1_lidar": [rng.normal(size=(each, 3)).astype(np.float32) for each in range(8)],
        "unit1_csi": [(rng.normal(size=(6, 1)) + 1j).astype(np.complex64) for _ in range(8)],
    }
    write_folder(tmp_path / "site", made, recordings=recordings)
    read = read_folder(tmp_path / "site", list(recordings))
    for column, arrays in recordings.items():
        for path, array in zip(read.files[column], arrays, strict=True):
            found = read_recording(tmp_path / "site" / path)
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype
    write_folder(tmp_path / "copy", read, source=tmp_path / "site")
    again = read_folder(tmp_path / "copy", list(recordings))
    np.testing.assert_array_equal(again.powers, read.powers)
    for path in again.files["unit1_lidar"]:
        assert (tmp_path / "copy" / path).read_bytes() == (tmp_path / "site" / path).read_bytes()
    with pytest.raises(RuntimeError, match="stop"):
        write_folder(tmp_path / "third", made, beside=lambda part: (_ for _ in ()).throw(RuntimeError("stop")))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "site"]
