"""Detect the version of a ``.mat`` file, list its variables and find arrays by name, for all versions alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.other_formats import numpy_files, sigmf
from matlab_io.containers.variable import Variable, matlab_shape
from matlab_io.errors import MatFileError, reading

__all__ = ["detect_version", "find_arrays", "inspect_file", "list_variables", "read_text", "stated_text"]

_TEXT = frozenset(b"0123456789.,;+-*/eEijnfaNIFA()\"' \t\r\n_xyhHk")  # numbers, complex ones, and short headings
# First bytes of files that are often given in place of a channel file, and the remedy.
_OTHER_FILES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it with gunzip first"),
    (b"PK", "is a zip archive (unpack it first), or a .npz file cut short (save or copy it again)"),
    (b"BZh", "is compressed by bzip2; unpack it with bunzip2 first"),
    (b"\xfd7zXZ", "is compressed by xz; unpack it with unxz first"),
    (b"7z\xbc\xaf", "is a 7-Zip archive; unpack it first"),
    (b"# Created by Octave", "is in Octave's text format; save it with save -v7"),
    (b"Octave-1-", "is in Octave's binary format; save it with save -v7"),
    (b"\x80\x04\x95", "is a Python pickle, which is not read; save the array with numpy.save"),
)


def detect_version(path: Path) -> str:
    """Detect the version of a ``.mat`` file from its first bytes.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    str
        ``"4"``, ``"6"``, ``"7"`` (level 5, plain or compressed), ``"7.3"`` (HDF5), ``"npy"``, ``"npz"``, or, by the
        name of the file, ``"sigmf"``.

    Raises
    ------
    MatFileError
        If it is none of these, with its kind where that is known, or cannot be read.
    """
    with reading(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise MatFileError(f"{path}: is not a regular file; random access is needed, save it to disk")
        if sigmf.is_recording(path):
            return "sigmf"
        with path.open("rb") as file:
            start = file.read(2048)
            is_hdf5 = hdf5.find_superblock(file) is not None
        if not start:
            raise MatFileError(f"{path}: is empty; save it again")
        if is_hdf5:
            return "7.3"
        if start[:19] == b"MATLAB 7.3 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its -v7.3 header; save or copy the file again")
        if level5.is_level5(start):
            return "7" if level5.is_compressed(path) else "6"
        if start[:19] == b"MATLAB 5.0 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its header; save or copy the file again")
        if start.startswith(numpy_files.NPY_SIGNATURE):
            return "npy"
        if start.startswith(b"PK") and numpy_files.is_npz(path):
            return "npz"
        if level4.is_level4(start):
            return "4"
    raise MatFileError(f"{path}: {_kind(start)}")


def _kind(start: bytes) -> str:
    """Describe a file that is not read, and the remedy."""
    for signature, text in _OTHER_FILES:
        if start.startswith(signature):
            return text
    head = start[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page (HTML or XML), not the file itself; download the file again, e.g. by its raw link"
    if _is_table(start):
        return "is a table of text (CSV), which is not read; save a complex array with save -v7, or with numpy.save"
    return "not a .mat file; save the channels with MATLAB's or Octave's save -v7 (raw complex64 numbers need --shape)"


def _is_table(start: bytes) -> bool:
    """Return whether a file begins like a table of numbers in text."""
    lines = start[:2048].splitlines()[:2]
    return bool(lines) and all(byte in _TEXT for byte in lines[-1]) and any(mark in lines[-1] for mark in b",;\t ")


def list_variables(path: Path, version: str) -> list[Variable]:
    """List the variables of a file of known version, struct fields by dotted names.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : str
        Its version, from `detect_version`.

    Returns
    -------
    list of Variable
        Of several variables with one name, the last.

    Raises
    ------
    MatFileError
        If the file is damaged.
    """
    with reading(path):
        if version == "7.3":
            found = hdf5.list_variables(path)
        elif version in ("npy", "npz"):
            found = numpy_files.list_variables(path, version)
        elif version == "sigmf":
            found = sigmf.list_variables(path)
        else:
            found = level4.list_variables(path) if version == "4" else level5.list_variables(path)
    return list({variable.name: variable for variable in found}.values())


def inspect_file(path: str | os.PathLike[str]) -> list[Variable]:
    """List the variables of a ``.mat`` file of any version without loading an array.

    Parameters
    ----------
    path : str or os.PathLike
        File.

    Returns
    -------
    list of Variable
        Variables, and fields of structs by dotted names.

    Raises
    ------
    MatFileError
        If the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    return list_variables(file, detect_version(file))


def read_text(path: Path, version: str, name: str) -> str:
    """Read a text variable.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : str
        Its version, from `detect_version`.
    name : str
        Variable, dotted for a field.

    Returns
    -------
    str
        Text without surrounding spaces.
    """
    with reading(path, name):
        if version == "7.3":
            return hdf5.read_text(path, name).strip()
        if version in ("npy", "npz"):
            return str(numpy_files.load(path, version, name).reshape(-1)[0]).strip()
        if version == "sigmf":
            return sigmf.stated_texts(sigmf.open_recording(path))[name]
        read = level4.read_arrays if version == "4" else level5.read_arrays
        codes, _ = read(path, [name])[name]
        return "".join(chr(int(code)) for code in codes.reshape(-1)).strip()


def stated_text(path: Path, version: str, channel: str, variables: Sequence[Variable], name: str) -> str:
    """Return a text that a file states about its channels.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : str
        Its version, from `detect_version`.
    channel : str
        Name of the channels.
    variables : sequence of Variable
        Variables of the file.
    name : str
        Name of the text, e.g. ``"layout"``: a text variable beside the channels, at the top level or in the struct
        ``nflae_info``, or an attribute in an HDF5 file.

    Returns
    -------
    str
        Text; ``""`` where the file states none.
    """
    texts = {variable.name.lower(): variable.name for variable in variables if variable.matlab_class == "char"}
    struct = channel.rpartition(".")[0]
    for place in (f"{struct}.{name}" if struct else name, name, f"nflae_info.{name}"):
        if place.lower() in texts:
            return read_text(path, version, texts[place.lower()])
    if version == "7.3":
        with reading(path):
            return hdf5.attribute_text(path, channel, name).strip()
    return ""


def find_arrays(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
    """Load the numeric arrays of given names from a ``.mat`` file of any version, in structs and cells too.

    Parameters
    ----------
    path : str or os.PathLike
        File.
    wanted : callable
        Predicate of an array's own name, e.g. ``"coeff"``: that of the variable, of the field that holds it, or of the
        cell of which it is an element.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays by their MATLAB expressions, e.g. ``"chan(2).coeff"``, ``"gains{3}"`` or ``"set{1}.user{7}.channel"``
        (indices linear and from 1; none for a scalar struct), in MATLAB's axis order and shape, two axes or more, of
        float32, float64, complex64 or complex128. Elements of one array come in their order. Arrays are loaded whole;
        empty ones are left out.

    Raises
    ------
    MatFileError
        If the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    version = detect_version(file)
    with reading(file):
        if version == "7.3":
            return {name: _two_axes(_number(array)) for name, array in hdf5.find_arrays(file, wanted).items()}
        if version in ("npy", "npz"):
            names = [variable.name for variable in list_variables(file, version) if wanted(variable.name)]
            arrays = {name: numpy_files.load(file, version, name).T for name in names}
            return {name: _two_axes(_number(array)) for name, array in arrays.items() if array.dtype.kind in "iufc"}
        if version == "sigmf":
            return {"H": sigmf.open_recording(file).load().T} if wanted("H") else {}
        if version == "4":
            names = [variable.name for variable in list_variables(file, version) if wanted(variable.name)]
            parts = level4.read_arrays(file, names)
        else:
            parts = level5.find_arrays(file, wanted)
    return {name: _two_axes(_join(*both)) for name, both in parts.items() if both[0].size}


def _two_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(matlab_shape(array.shape), order="F")


def _number(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert an array from h5py, where complex numbers may be a compound of a real and an imaginary part."""
    names = array.dtype.names
    if names is not None:
        imaginary = next(name for name in names if name.startswith("i"))
        return _join(array[next(name for name in names if name != imaginary)], array[imaginary])
    return array if array.dtype.kind == "c" else _join(array, None)


def _join(real: npt.NDArray[Any], imaginary: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Join real and imaginary parts, in single precision where the file has it, else in double.

    Whole numbers may be stored in fewer bytes than their class has.
    """
    single = real.dtype.kind == "f" and real.dtype.itemsize == 4
    if imaginary is None:
        return real.astype(np.float32 if single else np.float64)
    joined = np.empty(real.shape, np.complex64 if single else np.complex128)
    joined.real, joined.imag = real, imaginary
    return joined
