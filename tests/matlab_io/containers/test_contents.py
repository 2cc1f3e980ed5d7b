"""Files that are no ``.mat`` files, or cannot be read: one line each."""

from __future__ import annotations

import gzip
import os
import pickle
import re
from pathlib import Path

import pytest

from matlab_io import MatFileError, inspect_file, open_channels


def message(path: Path) -> str:
    with pytest.raises(MatFileError) as first:
        open_channels(path)
    with pytest.raises(MatFileError) as second:
        inspect_file(path)
    assert str(first.value) == str(second.value)
    assert "\n" not in str(first.value)
    assert str(first.value).startswith(f"{path}: ")
    return str(first.value)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "no.mat")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a directory" in message(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.mat").touch()
    assert "is empty" in message(tmp_path / "e.mat")


@pytest.mark.parametrize("content", [b"H = [1 2 3]\n", b"x", b"<p>", bytes(300), b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.mat").write_bytes(content)
    assert "not a .mat file; save the channels" in message(tmp_path / "t.mat")


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html lang='en'>", "web page.*download the file again"),
        (b"<html><body>404", "web page"),
        (gzip.compress(b"H", mtime=0), "gzip.*gunzip"),
        (b"PK\x03\x04" + bytes(300), "zip archive"),
        (b"# Created by Octave 7.3.0\n# name: H\n", "Octave's text format.*save -v7"),
        (pickle.dumps({"H": 1}), "pickle.*numpy.save"),
        (b"1,2,3\n" * 200, "CSV.*save -v7"),
        (b"0.1+0.2i;0.3-0.4i\n" * 9, "CSV"),
        (b"re_1\tim_1\n1e-3\t2e-3\n", "CSV"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, remedy: str) -> None:
    (tmp_path / "t.mat").write_bytes(content)
    assert re.search(remedy, message(tmp_path / "t.mat"))


@pytest.mark.parametrize("start", [b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"])
def test_nothing_but_a_header(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "t.mat").write_bytes(start)
    assert "damaged or cut short in its" in message(tmp_path / "t.mat")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "p.mat").write_bytes(b"x")
    (tmp_path / "p.mat").chmod(0)
    assert "no permission" in message(tmp_path / "p.mat")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.mat")
    assert "not a regular file" in message(tmp_path / "f.mat")
