"""Read the structure and arrays of version 7.3 ``.mat`` files, which are HDF5 files.

h5py shows the axes of a MATLAB array in reverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from matlab_io.containers.hdf5_heaps import check_heaps, find_superblock
from matlab_io.containers.limits import Allowance
from matlab_io.containers.variable import CHANNEL_NAMES, Variable, field_of, matlab_shape
from matlab_io.errors import MatFileError

__all__ = ["attribute_text", "find_arrays", "find_superblock", "list_variables", "open_file", "read_text"]

_DEPTH = 16
_ITEM_COST = 16  # an object of HDF5 takes hundreds of bytes, and 0.2 ms to read
_LONGEST_CLASS = 256
_CACHE_BYTES = 64 << 20
_FLOATS = {"f2": "single", "f4": "single", "f8": "double"}


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, without a lock and with a 64 MiB cache.

    Network shares and read-only disks may refuse locks.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    h5py.File
        Open file.

    Raises
    ------
    MatFileError
        If a heap of the file is damaged so that HDF5 would not return.
    """
    check_heaps(path)
    return h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)


def list_variables(path: Path) -> list[Variable]:
    """List the variables of a v7.3 file and the fields of its structs without reading an array.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    list of Variable
        Variables, fields by dotted names.

    Raises
    ------
    MatFileError
        If it is one of Octave's own HDF5 files, which have another structure, or its channels are in another file.
    """
    with _open_matlab(path) as file:
        found = _Walk(path).members(file, "", _DEPTH)
        _refuse_links(path, file, bool(found))
    return found


def find_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
    """Load the numeric arrays of given names, in struct arrays and cells too.

    Parameters
    ----------
    path : pathlib.Path
        File.
    wanted : callable
        Predicate of an array's own name.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays in MATLAB's axis order by their MATLAB expressions, e.g. ``"chan(2).coeff"``.

    Raises
    ------
    MatFileError
        If it is one of Octave's own HDF5 files.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    walk = _Walk(path)

    def visit(item: Any, name: str, depth: int) -> None:
        walk.enter(item, name)
        if isinstance(item, h5py.Group):
            for key in _members(item):
                member, references = item[key], walk.references(item[key], name)
                if references is None or _matlab_class(member):  # a field of one struct, which may be a cell
                    visit(member, f"{name}.{key}" if name else key, depth)
                elif depth:  # a field of a struct array, an array of references
                    for index, reference in enumerate(references, start=1):
                        visit(item.file[reference], f"{name}({index}).{key}", depth - 1)
        elif (references := walk.references(item, name)) is not None:
            for index, reference in enumerate(references if depth else (), start=1):
                visit(item.file[reference], f"{name}{{{index}}}", depth - 1)
        elif wanted(field_of(name)) and _dataset(item, name).is_numeric:
            walk.check(item, name)
            found[name] = np.asarray(item[()]).T
        walk.leave(item)

    with _open_matlab(path) as file:
        visit(file, "", _DEPTH)
    return found


def read_text(path: Path, name: str) -> str:
    """Read a text variable.

    Parameters
    ----------
    path : pathlib.Path
        File.
    name : str
        Variable, dotted for a field.

    Returns
    -------
    str
    """
    with open_file(path) as file:
        dataset = file[name.replace(".", "/")]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return str(np.asarray(dataset.asstr()[()]).reshape(-1)[0])
        return "".join(chr(code) for code in np.asarray(dataset[()]).reshape(-1).tolist())


def attribute_text(path: Path, name: str, attribute: str) -> str:
    """Read a text attribute of an array, or else of the file.

    Parameters
    ----------
    path : pathlib.Path
        File.
    name : str
        Array, dotted for a field; an expression of several has no attributes.
    attribute : str
        Name of the attribute.

    Returns
    -------
    str
        Text; ``""`` without such an attribute.
    """
    with open_file(path) as file:
        for holder in (file.get(name.replace(".", "/")), file):
            value = None if holder is None else _attribute(holder, attribute)
            if isinstance(value, (str, bytes)):
                return value.decode("latin-1") if isinstance(value, bytes) else value
    return ""


class _Walk:
    """Pass over a file within the bounds of its size.

    Parameters
    ----------
    path : pathlib.Path
        File.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._allowance = path, Allowance(path, _ITEM_COST)
        self._open: set[int] = set()
        self._groups: set[int] = set()

    def enter(self, item: Any, name: str) -> None:
        """Count an object; refuse one inside itself, a group linked twice, and numbers that h5py cannot hold."""
        self._allowance.item(name)
        if isinstance(item, h5py.Dataset):
            _check_type(item.dtype, name)
        address = h5py.h5o.get_info(item.id).addr
        if address in self._open or address in self._groups:
            raise MatFileError(f"{self._path}: {name} is linked more than once, which MATLAB never does")
        if isinstance(item, h5py.Group):
            self._groups.add(address)
        if isinstance(item, h5py.Group) or _holds_references(item):
            self._open.add(address)

    def leave(self, item: Any) -> None:
        """Leave an object entered before."""
        self._open.discard(h5py.h5o.get_info(item.id).addr)

    def check(self, dataset: Any, name: str) -> None:
        """Refuse a dataset whose numbers are in another file, or are far more than the file stores."""
        if dataset.is_virtual or dataset.external:
            raise MatFileError(f"{self._path}: {name} refers to data in other files; save a copy that holds them")
        self._allowance.check_array(dataset.size * dataset.dtype.itemsize if dataset.shape is not None else 0)
        self._allowance.check_array(math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)

    def references(self, item: Any, name: str) -> npt.NDArray[Any] | None:
        """Return the references in a cell or in a field of a struct array, in MATLAB's linear order; else None."""
        if not isinstance(item, h5py.Dataset) or not _holds_references(item):
            return None
        self.check(item, name)
        return np.asarray(item[()]).ravel()

    def members(self, group: Any, prefix: str, depth: int) -> list[Variable]:
        """List the members of a group as variables."""
        found: list[Variable] = []
        for key in _members(group):
            item, name = group[key], prefix + key
            self.enter(item, name)
            if isinstance(item, h5py.Group):
                found += self._group(item, name, depth)
            elif isinstance(item, h5py.Dataset):
                self.check(item, name)
                found.append(_dataset(item, name))
            self.leave(item)
        return found

    def _group(self, group: h5py.Group, name: str, depth: int) -> list[Variable]:
        matlab_class = _matlab_class(group) or "struct"
        if "MATLAB_sparse" in group.attrs:
            return [Variable(name, (int(_attribute(group, "MATLAB_sparse")), 1), "sparse", False)]
        if matlab_class != "struct":
            return [Variable(name, (1, 1), matlab_class, False)]
        # A struct array has an array of references per field; the fields of a scalar struct are the group's members.
        array = next(
            (
                item
                for item in (group[key] for key in _members(group))
                if isinstance(item, h5py.Dataset) and _holds_references(item) and not _matlab_class(item)
            ),
            None,
        )
        if array is not None:
            return [Variable(name, matlab_shape(array.shape[::-1]), "struct", False)]
        found = [Variable(name, (1, 1), "struct", False)]
        return found + (self.members(group, name + ".", depth - 1) if depth else [])


def _refuse_links(path: Path, file: h5py.File, has_others: bool) -> None:
    """Refuse external links where a variable is expected: with the name of channels, or where there is nothing else."""
    for name in file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink) and (not has_others or name.lower() in CHANNEL_NAMES):
            raise MatFileError(
                f"{path}: {name} is a link to {link.path} in {link.filename}; give that file, or save a copy that"
                " holds the data"
            )


def _open_matlab(path: Path) -> h5py.File:
    file = open_file(path)
    if _is_octave(file):
        file.close()
        raise MatFileError(f"{path}: is in Octave's -hdf5 format, which is not MATLAB's -v7.3; save it with -v7")
    return file


def _is_octave(file: h5py.File) -> bool:
    return any(
        isinstance(item, h5py.Group) and "type" in item and "value" in item and "MATLAB_class" not in item.attrs
        for item in (file[name] for name in _members(file)[:4])
    )


def _members(group: Any) -> list[str]:
    """List the members of a group without MATLAB's internal ones (#refs#, #subsystem#) and without links."""
    names = list(group)
    if foreign := [name for name in names if not isinstance(name, str)]:  # how h5py gives names in other encodings
        raise ValueError(f"the name {foreign[0]!r} is not in UTF-8")
    return [
        name for name in names if not name.startswith("#") and isinstance(group.get(name, getlink=True), h5py.HardLink)
    ]


def _attribute(item: Any, name: str, default: Any = None) -> Any:
    """Return the value of an attribute."""
    if name not in item.attrs:
        return default
    _check_type(item.attrs.get_id(name).dtype, f"the attribute {name}")
    return item.attrs[name]


def _check_type(dtype: np.dtype[Any], name: str) -> None:
    """Refuse a compound type whose fields overlap as h5py gives them.

    h5py takes a float of an unusual exponent for a longer one, but its compound for as short as in the file: to read it
    would write beyond the array (seen in h5py 3.16).
    """
    if dtype.subdtype is not None:
        _check_type(dtype.subdtype[0], name)
    if (inner := h5py.check_vlen_dtype(dtype)) is not None:
        _check_type(np.dtype(inner), name)
    end = 0
    for place, field in sorted(((each[1], each[0]) for each in (dtype.fields or {}).values()), key=itemgetter(0)):
        _check_type(field, name)
        if place < end or place + field.itemsize > dtype.itemsize:
            raise ValueError(f"the fields of {name} overlap")
        end = place + field.itemsize


def _matlab_class(item: Any) -> str:
    value = _attribute(item, "MATLAB_class", b"")
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value))[:_LONGEST_CLASS]


def _holds_references(dataset: h5py.Dataset) -> bool:
    return h5py.check_ref_dtype(dataset.dtype) is not None


def _dataset(dataset: h5py.Dataset, name: str) -> Variable:
    matlab_class, dtype = _matlab_class(dataset), dataset.dtype
    by_matlab = bool(matlab_class)
    parts = dtype.names or ()
    if _attribute(dataset, "MATLAB_empty"):
        sizes = np.asarray(dataset[()]).ravel() if dataset.size <= 32 else ()
        return Variable(name, tuple(int(size) for size in sizes) or (0, 0), matlab_class or "double", False)
    is_complex = dtype.kind == "c" or set(parts) in ({"real", "imag"}, {"r", "i"})
    if not matlab_class:
        number = dtype.fields[parts[0]][0] if is_complex and parts and dtype.fields else dtype
        if is_complex and number.kind == "c":
            number = np.dtype(f"f{number.itemsize // 2}")
        matlab_class = _class_of(number)
    if dataset.shape is None:  # a null dataspace
        return Variable(name, (0, 0), matlab_class, is_complex)
    if by_matlab or len(dataset.shape) < 2:
        return Variable(name, matlab_shape(dataset.shape[::-1]), matlab_class, is_complex)
    return Variable(name, dataset.shape, matlab_class, is_complex, row_major=True)


def _class_of(dtype: np.dtype[Any]) -> str:
    """Return the MATLAB class of a dataset that another program wrote."""
    if dtype.kind == "f":
        return _FLOATS.get(dtype.str[1:], "double")
    if dtype.kind in "iu":
        return f"{'u' if dtype.kind == 'u' else ''}int{8 * dtype.itemsize}"
    if dtype.kind == "b":
        return "logical"
    if h5py.check_string_dtype(dtype) is not None:
        return "char"
    return "char" if dtype.kind in "SU" else f"HDF5 {dtype.name}"
