"""Convert GNU Radio's polymorphic types (PMTs) to and from Python values, in the format of ``pmt.serialize_str``.

    null       None             bool      bool
    symbol     str              int32     int that fits in 32 bits
    int64      int beyond       uint64    numpy.uint64
    double     float            complex   complex
    pair       Pair             list      list (a chain of pairs that ends in null)
    tuple      tuple            vector    Vector
    dict       dict             uniform vectors u8 ... c64: numpy array, one axis, of that dtype

In GNU Radio the empty list and the empty dictionary are null: both are decoded as None. A pair whose second half is a
list is a longer list, and is decoded as one. Numbers are big-endian on the wire.

Releases of GNU Radio write the elements of an f32vector and a c32vector in three ways, the `Dialect`:

    3.10     float; float real, float imaginary                 3.10.5 and later
    3.9      float; float imaginary, float real                 3.9.0 to 3.10.4
    3.8      double; double real, double imaginary              3.8 and before

The length of a PMT distinguishes 3.8 from the others; nothing in a PMT distinguishes 3.9 from 3.10.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError

Pmt: TypeAlias = Any
Buffer: TypeAlias = bytes | bytearray | memoryview
Dialect: TypeAlias = Literal["3.10", "3.9", "3.8"]

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

MAX_DEPTH = 64

_TRUE, _FALSE, _SYMBOL, _INT32, _DOUBLE, _COMPLEX, _NULL, _PAIR, _VECTOR, _DICT, _UNIFORM = range(11)
_UINT64, _TUPLE, _INT64 = 11, 12, 13

# A uniform vector's type code is its index here; numpy's names, big-endian.
_UNIFORM_TYPES = tuple(
    np.dtype(name) for name in ["u1", "i1", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8", ">f4", ">f8", ">c8", ">c16"]
)
_UNIFORM_CODES = {dtype.newbyteorder("="): code for code, dtype in enumerate(_UNIFORM_TYPES)}
_FLOAT, _COMPLEX_FLOAT = np.dtype(np.float32), np.dtype(np.complex64)
_DOUBLE_OF = {_FLOAT: np.dtype(">f8"), _COMPLEX_FLOAT: np.dtype(">c16")}


class PmtError(NflaeError):
    """Report bytes that are not a serialised PMT, or a value that no PMT can hold."""


@dataclass(frozen=True)
class Pair:
    """Hold a pair that is not the start of a list; a PDU is ``Pair(metadata, samples)``.

    Parameters
    ----------
    car, cdr : Pmt
        First and second half.
    """

    car: Pmt
    cdr: Pmt


class Vector(tuple[Pmt, ...]):
    """Hold a PMT vector, which GNU Radio does not consider equal to a PMT tuple."""

    __slots__ = ()


def encode(value: Pmt, dialect: Dialect = "3.10") -> bytes:
    """Serialise a value as GNU Radio does.

    Parameters
    ----------
    value : Pmt
        Value, see the table of this module.
    dialect : {"3.10", "3.9", "3.8"}
        Form of the elements of f32vectors and c32vectors.

    Returns
    -------
    bytes
        Serialised PMT.

    Raises
    ------
    PmtError
        If no PMT can hold the value.
    """
    writer = _Writer(dialect)
    writer.value(value, 0)
    return bytes(writer.out)


def decode(data: Buffer, dialect: Dialect = "3.10") -> Pmt:
    """Decode one serialised PMT.

    Parameters
    ----------
    data : bytes-like
        The PMT and nothing else.
    dialect : {"3.10", "3.9", "3.8"}
        Form of the elements of f32vectors and c32vectors.

    Returns
    -------
    Pmt
        Value, see the table of this module.

    Raises
    ------
    PmtError
        If the PMT is cut short, malformed, or followed by other bytes.
    """
    value, end = decode_at(data, 0, dialect)
    if end != len(data):
        raise PmtError(f"{len(data) - end} bytes follow the PMT that ends at byte {end}")
    return value


def decode_at(data: Buffer, start: int, dialect: Dialect = "3.10") -> tuple[Pmt, int]:
    """Decode the PMT that begins at a byte.

    Parameters
    ----------
    data : bytes-like
        Bytes that contain the PMT.
    start : int
        Its first byte.
    dialect : {"3.10", "3.9", "3.8"}
        Form of the elements of f32vectors and c32vectors.

    Returns
    -------
    value : Pmt
        Value, see the table of this module.
    end : int
        First byte after it.

    Raises
    ------
    PmtError
        If the PMT is cut short or malformed.
    """
    reader = _Reader(memoryview(data), start, dialect)
    return reader.value(0), reader.position


class _Writer:
    """Append serialised PMTs to ``out``."""

    def __init__(self, dialect: Dialect) -> None:
        self.out = bytearray()
        self.dialect = dialect

    def value(self, value: Pmt, depth: int) -> None:
        out = self.out
        if depth > MAX_DEPTH:
            raise PmtError(f"a PMT nested deeper than {MAX_DEPTH} levels")
        if value is None:
            out.append(_NULL)
        elif isinstance(value, (bool, np.bool_)):
            out.append(_TRUE if value else _FALSE)
        elif isinstance(value, str):
            self.symbol(value)
        elif isinstance(value, np.uint64):
            out += struct.pack(">BQ", _UINT64, int(value))
        elif isinstance(value, (int, np.integer)):
            self.integer(int(value))
        elif isinstance(value, (float, np.floating)):
            out += struct.pack(">Bd", _DOUBLE, value)
        elif isinstance(value, (complex, np.complexfloating)):
            out += struct.pack(">Bdd", _COMPLEX, value.real, value.imag)
        elif isinstance(value, np.ndarray):
            self.uniform(value)
        elif isinstance(value, Pair):
            out.append(_PAIR)
            self.value(value.car, depth + 1)
            self.value(value.cdr, depth + 1)
        elif isinstance(value, (list, tuple, dict)):
            self.collection(value, depth)
        else:
            raise PmtError(f"no PMT holds a {type(value).__name__}")

    def symbol(self, value: str) -> None:
        name = value.encode("utf-8", "surrogateescape")
        if len(name) > 0xFFFF:
            raise PmtError(f"a symbol of {len(name)} bytes; 65535 is the most")
        self.out += struct.pack(">BH", _SYMBOL, len(name)) + name

    def collection(self, value: list[Pmt] | tuple[Pmt, ...] | dict[Pmt, Pmt], depth: int) -> None:
        if isinstance(value, tuple):
            self.out += struct.pack(">BI", _VECTOR if isinstance(value, Vector) else _TUPLE, len(value))
            for element in value:
                self.value(element, depth + 1)
            return
        if isinstance(value, dict):
            for key, element in value.items():
                self.out += bytes((_DICT, _PAIR))
                self.value(key, depth + 1)
                self.value(element, depth + 1)
        else:
            for element in value:
                self.out.append(_PAIR)
                self.value(element, depth + 1)
        self.out.append(_NULL)

    def integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.out += struct.pack(">Bi", _INT32, value)
        elif -(2**63) <= value < 2**63:
            self.out += struct.pack(">Bq", _INT64, value)
        else:
            raise PmtError(f"{value} does not fit in 64 bits; numpy.uint64 holds unsigned ones")

    def uniform(self, array: npt.NDArray[Any]) -> None:
        native = array.dtype.newbyteorder("=")
        code = _UNIFORM_CODES.get(native)
        if code is None or array.ndim != 1:
            raise PmtError(f"no PMT holds an array of {array.dtype} with {array.ndim} axes")
        # GNU Radio writes one byte of padding, after its length.
        self.out += struct.pack(">BBIBx", _UNIFORM, code, len(array), 1)
        self.out += _swapped(array, self.dialect).astype(_element_type(code, self.dialect)).tobytes()


def _element_type(code: int, dialect: Dialect) -> np.dtype[Any]:
    """Return the type of a uniform vector's elements on the wire."""
    dtype = _UNIFORM_TYPES[code]
    return _DOUBLE_OF.get(dtype.newbyteorder("="), dtype) if dialect == "3.8" else dtype


def _swapped(array: npt.NDArray[Any], dialect: Dialect) -> npt.NDArray[Any]:
    """Exchange real and imaginary parts where the dialect does."""
    if dialect != "3.9" or array.dtype.newbyteorder("=") != _COMPLEX_FLOAT:
        return array
    parts = np.ascontiguousarray(array).view(np.dtype(np.float32).newbyteorder(array.dtype.byteorder))
    return parts.reshape(-1, 2)[:, ::-1].copy().view(array.dtype)[:, 0]


class _Reader:
    """Read PMTs from ``data``, from byte ``position`` on."""

    def __init__(self, data: memoryview, position: int, dialect: Dialect) -> None:
        self.data = data
        self.position = position
        self.dialect = dialect

    def value(self, depth: int) -> Pmt:
        if depth > MAX_DEPTH:
            raise PmtError(f"a PMT nested deeper than {MAX_DEPTH} levels, at byte {self.position}")
        start = self.position
        (kind,) = self.numbers(">B")
        if kind == _NULL:
            return None
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _SYMBOL:
            (length,) = self.numbers(">H")
            return str(self.take(length), "utf-8", "surrogateescape")
        if kind in (_INT32, _INT64, _DOUBLE):
            return self.numbers({_INT32: ">i", _INT64: ">q", _DOUBLE: ">d"}[kind])[0]
        if kind == _UINT64:
            return np.uint64(self.numbers(">Q")[0])
        if kind == _COMPLEX:
            return complex(*self.numbers(">dd"))
        if kind == _PAIR:
            return self.pairs(depth)
        if kind in (_VECTOR, _TUPLE):
            elements = self.elements(depth)
            return Vector(elements) if kind == _VECTOR else tuple(elements)
        if kind == _DICT:
            return self.dictionary(depth)
        if kind == _UNIFORM:
            return self.uniform()
        raise PmtError(f"byte {start} is {kind}, which begins no PMT")

    def pairs(self, depth: int) -> list[Pmt] | Pair:
        """Read a list, or pairs that end in another value; a chain of any length takes no recursion."""
        firsts = [self.value(depth + 1)]
        while self.next_is(_PAIR):
            firsts.append(self.value(depth + 1))
        last = self.value(depth + 1)
        if last is None:
            return firsts
        if depth + len(firsts) > MAX_DEPTH:
            raise PmtError(f"a chain of {len(firsts)} pairs that is no list, before byte {self.position}")
        for first in reversed(firsts):
            last = Pair(first, last)
        return last  # type: ignore[no-any-return]

    def dictionary(self, depth: int) -> dict[Pmt, Pmt]:
        """Read entries in the order of the wire; of two with one key the first is kept, as in GNU Radio."""
        entries: dict[Pmt, Pmt] = {}
        while True:
            if not self.next_is(_PAIR):
                raise PmtError(f"a dictionary entry that is no pair, at byte {self.position}")
            key, value = self.value(depth + 1), self.value(depth + 1)
            try:
                entries.setdefault(key, value)
            except TypeError:
                raise PmtError(f"a dictionary with a key that is a {type(key).__name__}") from None
            if self.next_is(_NULL):
                return entries
            if not self.next_is(_DICT):
                raise PmtError(f"a dictionary that does not go on at byte {self.position}")

    def elements(self, depth: int) -> list[Pmt]:
        (count,) = self.numbers(">I")
        # An element takes at least one byte.
        self.require(count)
        return [self.value(depth + 1) for _ in range(count)]

    def uniform(self) -> npt.NDArray[Any]:
        code, count, padding = self.numbers(">BIB")
        if code >= len(_UNIFORM_TYPES):
            raise PmtError(f"a uniform vector of unknown type {code}, before byte {self.position}")
        self.take(padding)
        dtype = _element_type(code, self.dialect)
        values = np.frombuffer(self.take(count * dtype.itemsize), dtype)
        return _swapped(values.astype(_UNIFORM_TYPES[code].newbyteorder("=")), self.dialect)

    def next_is(self, kind: int) -> bool:
        """Return whether the next byte is ``kind``; if so, consume it."""
        self.require(1)
        found = self.data[self.position] == kind
        self.position += found
        return found

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def take(self, length: int) -> memoryview:
        self.require(length)
        self.position += length
        return self.data[self.position - length : self.position]

    def require(self, length: int) -> None:
        if length > len(self.data) - self.position:
            raise PmtError(f"a PMT cut short: byte {self.position} begins {length} bytes, of {len(self.data)} in all")
