"""Small files that would cost much time or memory, or lead to other files, if they were believed."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Craft = Callable[[Path], None]


def element(kind: int, content: bytes) -> bytes:
    """A level 5 element, padded to 8 bytes."""
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(code: int, shape: tuple[int, ...], name: bytes, content: bytes, is_complex: bool = False) -> bytes:
    """A matrix element with flags, sizes and name before its content."""
    flags = element(6, struct.pack("<2I", code | (0x0800 if is_complex else 0), 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, name) + content)


def write_v7(path: Path, *matrices: bytes) -> None:
    """Compressed variables after a level 5 header."""
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    packed = {each: zlib.compress(each, 6) for each in matrices}
    path.write_bytes(header + b"".join(struct.pack("<2I", 15, len(packed[each])) + packed[each] for each in matrices))


def write_bomb(path: Path, head: bytes, zeros: int) -> None:
    """A compressed variable that starts with some bytes and goes on with zeros, in megabytes."""
    packer = zlib.compressobj(6)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = start + block * zeros
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + struct.pack("<2I", 15, len(packed)) + packed)


def _fields(names: bytes, length: int, values: bytes) -> bytes:
    return element(5, struct.pack("<i", length)) + element(1, names) + values


EMPTY = struct.pack("<2I", 14, 0)


def long_field_name(path: Path) -> None:
    """A field name of 1 MB in a struct of 100,000 fields."""
    inner = matrix(2, (1, 1), b"", _fields(b"x" * (1 << 20), 1 << 20, EMPTY))
    write_v7(path, matrix(2, (1, 1), b"s", _fields(b"a\0" * 100_000, 2, inner + EMPTY * 99_999)))


def million_empty_fields(path: Path) -> None:
    """40 structs of a million empty fields."""
    one = matrix(2, (1, 1), b"s", _fields(b"a" * 1_000_000, 1, EMPTY * 1_000_000))
    write_v7(path, *[one] * 40)


def million_cells(path: Path) -> None:
    """A cell of 30 million empty elements, and a struct array."""
    write_v7(path, matrix(1, (30_000_000, 1), b"c", EMPTY * 30_000_000))


def long_names_everywhere(path: Path) -> None:
    """A hundred thousand fields whose full names are long."""
    values = _fields(b"y\0" * 2_000, 2, EMPTY * 2_000)
    for _ in range(10):
        values = _fields(b"x" * 1_000, 1_000, matrix(2, (1, 1), b"", values))
    write_v7(path, matrix(2, (1, 1), b"s", values))


def many_axes(path: Path) -> None:
    """An array of 200,000 axes, whose size is a number of a million digits."""
    write_v7(path, matrix(6, (2**31 - 1,) * 200_000, b"H", element(9, bytes(8))))


def deflated_bomb(path: Path) -> None:
    """1 MB that inflates to 1 GB of complex zeros."""
    head = matrix(6, (62_500_000, 1), b"H", b"", is_complex=True)[8:] + struct.pack("<2I", 9, 500_000_000)
    write_bomb(path, struct.pack("<2I", 14, len(head) + 1_000_000_008) + head, 1_000)


def deflated_tail(path: Path) -> None:
    """Channels of a few bytes, with 1 GB behind them in the same element."""
    write_bomb(path, matrix(6, (2, 2), b"H", element(9, bytes(32))), 1_000)


def group_in_itself(path: Path) -> None:
    """A group that links to itself eight times."""
    with _matlab(path) as file:
        group = file.create_group("s")
        for index in range(8):
            group[f"again{index}"] = group


def groups_shared(path: Path) -> None:
    """Eight links at each of sixteen levels to the next, without a cycle."""
    with _matlab(path) as file:
        below = file.create_group("s15")
        for level in range(14, -1, -1):
            group = file.create_group(f"s{level}")
            for index in range(8):
                group[f"f{index}"] = below
            below = group


def cells_in_themselves(path: Path) -> None:
    """A cell whose thousand elements are the cell."""
    with _matlab(path) as file:
        cell = file.create_dataset("c", (1000, 1), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[...] = cell.ref


def cells_of_cells(path: Path) -> None:
    """Cells of a hundred elements that are all the next cell, sixteen deep."""
    with _matlab(path) as file:
        refs = file.create_group("#refs#")
        below = refs.create_dataset("number", data=np.ones((1, 1)))
        for level in range(16):
            cell = (file if level == 15 else refs).create_dataset(f"c{level}", (100, 1), h5py.ref_dtype)
            cell.attrs["MATLAB_class"] = np.bytes_("cell")
            cell[...] = below.ref
            below = cell


def external_storage(path: Path) -> None:
    """Numbers that are those of another file."""
    secret = path.with_name("secret")
    secret.write_bytes(bytes(1024))
    with _matlab(path) as file:
        _complex(file.create_dataset("H", (4, 4), _PAIR, external=[(str(secret), 0, 256)]))


def external_fifo(path: Path) -> None:
    """Numbers that come from a FIFO."""
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    with _matlab(path) as file:
        _complex(file.create_dataset("H", (4, 4), _PAIR, external=[(str(fifo), 0, 256)]))


def virtual_dataset(path: Path) -> None:
    """Numbers that are a view of another file."""
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["data"] = np.zeros((4, 4), _PAIR)
    layout = h5py.VirtualLayout((4, 4), _PAIR)
    layout[...] = h5py.VirtualSource(str(path.with_name("other.h5")), "data", (4, 4))
    with _matlab(path) as file:
        _complex(file.create_virtual_dataset("H", layout))


def external_link(path: Path) -> None:
    """Links to another file: of variables among the first four, where formats are told apart."""
    os.mkfifo(path.with_name("fifo"))
    with _matlab(path) as file:
        for name in "abcd":
            file[name] = h5py.ExternalLink(str(path.with_name("fifo")), "/x")


def never_written(path: Path) -> None:
    """An array of 16 TB of which nothing is stored."""
    with _matlab(path) as file:
        _complex(file.create_dataset("H", (1 << 20, 1 << 20), _PAIR, chunks=(1, 1 << 10)))


def large_chunk(path: Path) -> None:
    """A small array whose only chunk has 1 GB of zeros."""
    with _matlab(path) as file:
        data = file.create_dataset("H", (4, 4), _PAIR, chunks=(8_000, 8_000), maxshape=(None, None), compression="gzip")
        data.id.write_direct_chunk((0, 0), bytes(1_000_000))
        _complex(data)


def zipped_zeros(path: Path) -> None:
    """An .npz file whose array of 1 GB is said to be zeros."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<c16", "fortran_order": False, "shape": (8_000, 8_000)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("H.npy"), head.getvalue() + bytes(10_000_000), zipfile.ZIP_DEFLATED)


_PAIR = np.dtype([("real", "<f8"), ("imag", "<f8")])


def _complex(dataset: h5py.Dataset) -> None:
    dataset.attrs["MATLAB_class"] = np.bytes_("double")


def _matlab(path: Path) -> h5py.File:
    return h5py.File(path, "w", userblock_size=512)


CRAFTED: dict[str, Craft] = {
    craft.__name__: craft
    for craft in (
        long_field_name,
        million_empty_fields,
        million_cells,
        long_names_everywhere,
        many_axes,
        deflated_bomb,
        deflated_tail,
        group_in_itself,
        groups_shared,
        cells_in_themselves,
        cells_of_cells,
        external_storage,
        external_fifo,
        virtual_dataset,
        external_link,
        never_written,
        large_chunk,
        zipped_zeros,
    )
}
