"""Read and write measured sequences of beam powers and positions: DeepSense 6G's folders and ``.mat``."""

from matlab_io.sequences.folder import read_folder
from matlab_io.sequences.mat_file import read_mat, write_mat
from matlab_io.sequences.reading import read_sequences
from matlab_io.sequences.recordings import read_recording
from matlab_io.sequences.samples import Sequences
from matlab_io.sequences.writing import check_new_folder, write_folder

__all__ = [
    "Sequences",
    "check_new_folder",
    "read_folder",
    "read_mat",
    "read_recording",
    "read_sequences",
    "write_folder",
    "write_mat",
]
