"""Channels from and precoding results to MATLAB and Octave ``.mat`` files, versions 4 to 7.3."""

from matlab_io.arrays import find_arrays
from matlab_io.errors import MatFileError
from matlab_io.inspection import inspect_file
from matlab_io.reader import ChannelFile, open_channels
from matlab_io.variables import Variable
from matlab_io.writer import RESULT_NAMES, ResultFile, write_channels

__all__ = [
    "RESULT_NAMES",
    "ChannelFile",
    "MatFileError",
    "ResultFile",
    "Variable",
    "find_arrays",
    "inspect_file",
    "open_channels",
    "write_channels",
]
