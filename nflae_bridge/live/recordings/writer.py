"""Write a recording in SigMF while its messages arrive; convert it to a ``.mat`` file."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from matlab_io.containers.other_formats.sigmf import DATA, META, Recording, open_recording
from matlab_io.errors import NflaeError, writing
from matlab_io.version import __version__

_FIRST_SAVE_SECONDS = 1.0
_SAVE_SHARE = 0.05  # largest share of the time spent on the description
_BLOCK_BYTES = 64 << 20


class RecordingWriter:
    """Write a recording; its description is renewed at intervals, so that a killed program leaves a readable one.

    Parameters
    ----------
    path : pathlib.Path
        File of the samples, which ends in ``.sigmf-data``; the description lies beside it.
    users, antennas : int
        Size of an item.
    convention : {"hermitian", "direct"}
        Convention of the channels.
    description : str
        Text that says where the samples come from.

    Attributes
    ----------
    items : int
        Items written.

    Raises
    ------
    NflaeError
        If a file of that name exists, or cannot be written.
    """

    def __init__(self, path: Path, users: int, antennas: int, convention: str, description: str) -> None:
        self.path, self.items = path, 0
        self._length, self._run = users * antennas, 0
        self._began = time.monotonic()
        self._hash = hashlib.sha512()
        self._captures: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._global = {
            "core:datatype": "cf32_le",
            "core:version": "1.2.0",
            "core:num_channels": 1,
            "core:recorder": f"nflae-bridge {__version__}",
            "core:description": description,
            "core:extensions": [{"name": "nflae", "version": "1.0.0", "optional": True}],
            "nflae:users": users,
            "nflae:antennas": antennas,
            "nflae:convention": convention,
        }
        self._file = _created(path)
        self._save_at = self._began + _FIRST_SAVE_SECONDS
        self._save()

    def write(
        self,
        channels: npt.NDArray[np.complex64],
        header: bytes = b"",
        request: str = "",
        run: int = 1,
        age: float = 0.0,
    ) -> None:
        """Append a message.

        Parameters
        ----------
        channels : numpy.ndarray
            Items, complex64 (items, users, antennas), as sent.
        header : bytes
            Bytes before the samples of the message.
        request : str
            JSON header of a request.
        run : int
            Number of the sender's connection; each has a capture of its own.
        age : float
            Time since the arrival of the message, s.
        """
        seconds, start = time.monotonic() - self._began - age, self.items * self._length
        if run != self._run:
            moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._captures.append({"core:sample_start": start, "core:datetime": moment, "nflae:run": run})
            self._run = run
        samples = channels.astype("<c8", copy=False).tobytes()
        with writing(self.path):
            self._file.write(samples)
            self._file.flush()
        self._hash.update(samples)
        entry: dict[str, Any] = {
            "core:sample_start": start,
            "core:sample_count": channels.size,
            "nflae:seconds": round(seconds, 6),
        }
        if header:
            entry["nflae:header"] = base64.b64encode(header).decode()
        if request:
            entry["nflae:request"] = request
        self._annotations.append(entry)
        self.items += len(channels)

    def tick(self) -> None:
        """Renew the description if the time for it has come."""
        began = time.monotonic()
        if began >= self._save_at:
            self._save()
            self._save_at = time.monotonic() + max(_FIRST_SAVE_SECONDS, (time.monotonic() - began) / _SAVE_SHARE)

    def close(self) -> None:
        """Complete the recording, whose hash of the samples shows that, or delete the files of one without items."""
        self._file.close()
        if not self.items:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(META).unlink(missing_ok=True)
            return
        self._global["core:sha512"] = self._hash.hexdigest()
        self._save()

    def _save(self) -> None:
        content = {"global": self._global, "captures": self._captures, "annotations": self._annotations}
        meta = self.path.with_suffix(META)
        part = meta.with_name(f".{meta.name}.part")
        with writing(meta):
            part.write_text(json.dumps(content))
            part.replace(meta)


def _created(path: Path) -> BinaryIO:
    if path.exists():
        raise NflaeError(f"{path}: exists; give another name, or delete it first")
    with writing(path):
        return path.open("xb")


def check_creatable(path: Path) -> None:
    """Check that a recording can be created, before the first message comes.

    Parameters
    ----------
    path : pathlib.Path
        File of the samples.

    Raises
    ------
    NflaeError
        If a file of that name exists, or cannot be written.
    """
    _created(path).close()
    path.unlink()


def convert_recording(source: Path, output: Path) -> list[str]:
    """Write the drops of a recording to a ``.mat`` file of version 7.3, and delete the recording.

    Parameters
    ----------
    source : pathlib.Path
        File of the samples.
    output : pathlib.Path
        File to write: ``H``, per drop the number of its message, from 1, as ``message`` and its ``seconds``, and the
        JSON headers of requests as the lines of ``requests``, with what they state of the link budget, the noise power
        per user and drop where it differs. Tags are left out.

    Returns
    -------
    list of str
        Names of the quantities of the link budget that are left out, as not all requests state the same number.

    Raises
    ------
    NflaeError
        If the file cannot be written; then the recording is kept.
    """
    from matlab_io.writing.channels import write_channels  # h5py, which a recording in SigMF does not need

    recording = open_recording(source)
    counts = [message.items for message in recording.messages]
    extra: dict[str, Any] = {
        "message": np.repeat(np.arange(1.0, 1 + len(counts)), counts)[None],
        "seconds": np.repeat([message.seconds for message in recording.messages], counts)[None],
    }
    common, different = recording.link_budget()
    if any(message.request for message in recording.messages):
        extra["requests"] = "\n".join(message.request for message in recording.messages)
        extra |= common
    write_channels(
        output,
        _blocks(recording),
        users=recording.users,
        antennas=recording.antennas,
        drops=recording.items,
        version="7.3",
        convention=recording.convention,
        extra=extra,
    )
    source.unlink()
    source.with_suffix(META).unlink()
    return list(different)


def _blocks(recording: Recording) -> Iterator[npt.NDArray[np.complex64]]:
    """Yield the channels h_k in blocks."""
    channels = recording.load()
    step = max(1, _BLOCK_BYTES // (8 * recording.users * recording.antennas))
    for start in range(0, recording.items, step):
        block = channels[start : start + step]
        yield block.conj() if recording.convention == "direct" else block


def sample_path(output: Path) -> Path:
    """Return the file of the samples for an output of ``nflae record``.

    Parameters
    ----------
    output : pathlib.Path
        ``NAME.sigmf-data``, ``NAME.sigmf-meta`` or ``NAME.mat``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    NflaeError
        For another suffix.
    """
    if output.suffix not in (DATA, META, ".mat"):
        raise NflaeError(f"{output}: a recording is NAME{DATA}, with NAME{META} beside it, or NAME.mat; name it so")
    return output.with_suffix(DATA)
