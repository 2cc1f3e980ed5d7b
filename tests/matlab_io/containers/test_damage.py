"""Damaged and truncated files: one line, or a file that still loads; never a crash or another exception."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matlab_io import MatFileError, open_channels, write_channels

VERSIONS = ("4", "6", "7", "7.3")
RNG = np.random.default_rng(0)
CHANNELS = (RNG.standard_normal((3, 2, 5)) + 1j * RNG.standard_normal((3, 2, 5))).astype(np.complex64)
HARD = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small file of each version: the channels, then a scalar, a string and (from v5 on) a struct."""
    folder = tmp_path_factory.mktemp("whole")
    for version in VERSIONS:
        drops = 1 if version == "4" else 3
        extra = {"noise_power": 0.25, "name": "uav"}
        more = {} if version == "4" else {"site": {"x": np.ones((2, 3)), "name": "mast"}}
        write_channels(
            folder / version,
            [CHANNELS[:drops]],
            users=2,
            antennas=5,
            drops=drops,
            version=version,
            extra=extra | more,
        )
    return {version: (folder / version).read_bytes() for version in VERSIONS}


def attempt(path: Path, content: bytes) -> tuple[np.ndarray, dict[str, float]] | None:
    """The channels and scalars of a file, or None where it is refused in one line that names it."""
    path.write_bytes(content)
    try:
        with open_channels(path, layout="nks") as file:
            return file.read(0, file.drops), file.scalars
    except MatFileError as error:
        said = str(error)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return None


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
@HARD
def test_a_truncated_file_is_refused(
    tmp_path: Path, whole: dict[str, bytes], version: str, data: st.DataObject
) -> None:
    content = whole[version]
    cut = data.draw(st.integers(0, len(content) - 1))
    read = attempt(tmp_path / "cut.mat", content[:cut])
    if read is not None:  # cut between two variables, which no version before 7.3 can tell from a shorter file
        assert version != "7.3"
        assert np.array_equal(read[0], CHANNELS[: len(read[0])])


@pytest.mark.parametrize("version", ["4", "6", "7"])
def test_a_truncated_file_loads_only_if_cut_between_variables(
    tmp_path: Path, whole: dict[str, bytes], version: str
) -> None:
    content = whole[version]
    loads = [cut for cut in range(len(content)) if attempt(tmp_path / "cut.mat", content[:cut]) is not None]
    assert len(loads) == (4 if version == "4" else 5)  # after H, layout, convention, noise_power, name (before site)


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
@HARD
def test_flipped_bytes_are_refused_or_read(
    tmp_path: Path, whole: dict[str, bytes], version: str, data: st.DataObject
) -> None:
    content = bytearray(whole[version])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    attempt(tmp_path / "flip.mat", bytes(content))


@given(data=st.data())
@HARD
def test_flipped_bytes_within_compressed_channels_are_never_read(
    tmp_path: Path, whole: dict[str, bytes], data: st.DataObject
) -> None:
    content = bytearray(whole["7"])
    length = int.from_bytes(content[132:136], "little")
    at = data.draw(st.integers(136 + 2, 136 + length - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    read = attempt(tmp_path / "flip.mat", bytes(content))
    assert read is None or np.array_equal(read[0], CHANNELS)


@given(st.binary(min_size=0, max_size=400))
@HARD
def test_arbitrary_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    for start in (b"", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM", b"\x89HDF\r\n\x1a\n"):
        assert attempt(tmp_path / "x.mat", start + content) is None


def test_an_absurd_size_allocates_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    content = bytearray(whole["6"])
    at = content.index((5).to_bytes(4, "little") + (2).to_bytes(4, "little") + (3).to_bytes(4, "little"))
    content[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    assert attempt(tmp_path / "x.mat", bytes(content)) is None


def test_a_damaged_header_of_numpy_is_one_line_without_a_warning(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npy"
    np.save(whole, np.ones((4, 3, 2), np.complex64))
    for name, shape in (("damaged", b"(4, (, 2)"), ("escape", b"(4, '\\h')"), ("python2", b"(4L,3,2 )")):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(whole.read_bytes().replace(b"(4, 3, 2)", shape))
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            if name != "python2":
                with pytest.raises(MatFileError, match=rf"{name}\.npy: damaged or cut short .*; save or copy the file"):
                    open_channels(path, layout="nks", convention="hermitian")
            else:
                assert open_channels(path, layout="nks", convention="hermitian").drops == 2
        assert not shown


def test_an_array_of_objects_is_named(tmp_path: Path) -> None:
    objects = np.empty(3, object)
    objects[:] = [np.ones((3, 16), complex)] * 3
    np.save(tmp_path / "o.npy", objects)
    with pytest.raises(MatFileError, match=r"o\.npy: holds Python objects, not numbers; save a complex array"):
        open_channels(tmp_path / "o.npy")
