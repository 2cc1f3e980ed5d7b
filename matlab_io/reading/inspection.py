"""What is in a ``.mat`` file."""

from __future__ import annotations

import os
from pathlib import Path

from matlab_io.containers.contents import detect_version, list_variables
from matlab_io.containers.variable import Variable

__all__ = ["inspect_file"]


def inspect_file(path: str | os.PathLike[str]) -> list[Variable]:
    """The variables of a ``.mat`` file of any version, struct fields by dotted names; no array is loaded.

    Raises MatFileError where the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    return list_variables(file, detect_version(file))
