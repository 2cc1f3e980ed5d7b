"""Read channels from and write precoding results to MATLAB and Octave ``.mat`` files, versions 4 to 7.3."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from matlab_io import extras as _extras

if TYPE_CHECKING:
    from matlab_io.containers.contents import find_arrays, inspect_file
    from matlab_io.containers.limits import max_inflate
    from matlab_io.containers.variable import Variable
    from matlab_io.errors import MatFileError
    from matlab_io.reading.channel_file import ChannelFile, open_channels
    from matlab_io.reading.readings import AmbiguousLayout
    from matlab_io.result import RESULT_NAMES
    from matlab_io.writing.channels import write_channels
    from matlab_io.writing.results import ResultFile

_MODULES = {
    "RESULT_NAMES": "matlab_io.result",
    "AmbiguousLayout": "matlab_io.reading.readings",
    "ChannelFile": "matlab_io.reading.channel_file",
    "MatFileError": "matlab_io.errors",
    "ResultFile": "matlab_io.writing.results",
    "Variable": "matlab_io.containers.variable",
    "find_arrays": "matlab_io.containers.contents",
    "inspect_file": "matlab_io.containers.contents",
    "max_inflate": "matlab_io.containers.limits",
    "open_channels": "matlab_io.reading.channel_file",
    "write_channels": "matlab_io.writing.channels",
}

__all__ = [
    "RESULT_NAMES",
    "AmbiguousLayout",
    "ChannelFile",
    "MatFileError",
    "ResultFile",
    "Variable",
    "find_arrays",
    "inspect_file",
    "max_inflate",
    "open_channels",
    "write_channels",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: h5py and scipy belong to the engine's install, errors and the result schema do not.
    if name in _MODULES:
        try:
            return getattr(import_module(_MODULES[name]), name)
        except ModuleNotFoundError as error:
            raise _extras.explain_import(error, f"matlab_io.{name}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
