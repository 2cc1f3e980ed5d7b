"""Where an output may go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from matlab_io.errors import MatFileError
from matlab_io.writing.atomic import AtomicFile


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mat"
    path.write_bytes(b"channels")
    return path


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_the_input_is_never_the_output(tmp_path: Path, source: Path, make: object) -> None:
    alias = tmp_path / "alias.mat"
    assert callable(make)
    make(source, alias)
    for output in (source, alias, tmp_path / "." / "in.mat"):
        with pytest.raises(MatFileError, match="is the input"):
            AtomicFile(output, (source,))
    AtomicFile(tmp_path / "out.mat", (source,))


def test_a_link_to_a_missing_input_is_still_the_input(tmp_path: Path) -> None:
    (tmp_path / "alias.mat").symlink_to(tmp_path / "in.mat")
    with pytest.raises(MatFileError, match="is the input"):
        AtomicFile(tmp_path / "alias.mat", (tmp_path / "in.mat",))


def test_where_no_file_can_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, reason in [
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "out.mat", "the folder .*no does not exist; make it first"),
        (tmp_path / "file" / "out.mat", "does not exist"),
        (Path(os.devnull), "is not a regular file"),
        (tmp_path / ("x" * 300), "file name too long"),
    ]:
        with pytest.raises(MatFileError, match=reason) as caught:
            AtomicFile(output)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(MatFileError, match="no permission"):
        AtomicFile(tmp_path / "closed" / "out.mat")


def test_a_link_is_written_through(tmp_path: Path, source: Path) -> None:
    (tmp_path / "link.mat").symlink_to(source)
    file = AtomicFile(tmp_path / "link.mat")
    file.create()
    file.part.write_bytes(b"new")
    assert source.read_bytes() == b"channels"
    file.commit()
    assert source.read_bytes() == b"new"
    assert (tmp_path / "link.mat").is_symlink()
    assert not file.part.exists()


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out.mat")
    file.create()
    file.discard()
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_part_of_a_killed_process_is_removed_by_the_next_run(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from matlab_io.writing.atomic import AtomicFile\n"
        "file = AtomicFile(sys.argv[1]); file.create(); print(file.part.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    output = tmp_path / "out [1].mat"
    left = subprocess.run([sys.executable, "-c", program, output], capture_output=True, text=True)
    assert left.returncode == -signal.SIGKILL
    part = tmp_path / left.stdout.strip()
    assert part.exists()
    AtomicFile(tmp_path / "other.mat").create()
    assert part.exists()
    running = AtomicFile(output)
    running.create()
    assert not part.exists()
    AtomicFile(output).create()
    assert running.part.exists()


def test_part_of_another_host_is_removed_after_a_day(tmp_path: Path) -> None:
    parts = [tmp_path / f".out.mat.{'0' * 8}-1-{number:08x}.part" for number in range(2)]
    named = tmp_path / ".out.mat.mine.part"
    for part in (*parts, named):
        part.touch()
    for old in (parts[1], named):
        os.utime(old, (0, 0))
    AtomicFile(tmp_path / "out.mat").create()
    assert [part.exists() for part in (*parts, named)] == [True, False, True]
