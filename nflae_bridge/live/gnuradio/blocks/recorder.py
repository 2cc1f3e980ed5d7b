"""Record the CSI of a flowgraph in SigMF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pmt
from gnuradio import gr

from matlab_io.errors import NflaeError, check_writable, writing
from nflae_bridge.live.gnuradio.blocks.sizes import vector_of
from nflae_bridge.live.gnuradio.pmt import PmtError, decode
from nflae_bridge.live.gnuradio.tags import Tag, encode_header
from nflae_bridge.live.recordings.writer import RecordingWriter, sample_path


class CsiRecorder(gr.sync_block):
    """Write CSI and its tags to a recording, which ``nflae replay``, ``precode`` and ``evaluate`` read.

    Input: vectors of users * antennas complex numbers.

    Parameters
    ----------
    users, antennas : int
        Size of an item.
    file : str
        ``NAME.sigmf-data``; the description lies beside it as ``NAME.sigmf-meta``. ``""`` records nothing.
    replace : bool
        Replace a file of that name; otherwise it is an error.
    convention : {"hermitian", "direct"}
        Items hold h_k with y_k = h_k^H x, or the rows of H with y = H x.

    Raises
    ------
    NflaeError
        If the file exists or cannot be written. Found when the flowgraph runs, this is logged and ends the flowgraph.
    """

    def __init__(
        self, users: int, antennas: int, file: str, replace: bool = False, convention: str = "hermitian"
    ) -> None:
        gr.sync_block.__init__(self, "nflae CSI Recorder", [vector_of(users=users, antennas=antennas)], None)
        if convention not in ("hermitian", "direct"):
            raise NflaeError(f"convention must be hermitian or direct, got {convention!r}")
        self._path = sample_path(Path(file)) if file else None
        if file.endswith(".mat"):
            raise NflaeError(f"{file}: this block writes SigMF: name it {Path(file).stem}.sigmf-data")
        if self._path is not None:
            check_writable(self._path)
            if self._path.exists() and not replace:
                raise NflaeError(f"{self._path}: exists; give another name, set replace, or delete it first")
        self._users, self._antennas, self._replace, self._convention = users, antennas, replace, convention
        self._writer: RecordingWriter | None = None
        self._left_out = 0

    def start(self) -> bool:
        """Open the file; where that fails, `work` ends the flowgraph, which an exception here would leave waiting."""
        if self._path is not None:
            try:
                self._open(self._path)
            except NflaeError as error:
                self.logger.error(str(error))
        return True

    def _open(self, path: Path) -> None:
        if self._replace:
            with writing(path):
                path.unlink(missing_ok=True)
        text = "CSI of a GNU Radio flowgraph"
        self._writer = RecordingWriter(path, self._users, self._antennas, self._convention, text)

    def stop(self) -> bool:
        """Complete the recording; without an item it is deleted."""
        writer, self._writer = self._writer, None
        if writer is None:
            return True
        try:
            writer.close()
        except NflaeError as error:
            self.logger.error(str(error))
            return True
        if writer.items:
            self.logger.info(f"{self._path}: {writer.items} items")
        else:
            self.logger.warn(f"{self._path}: nothing recorded: no item came")
        if self._left_out:
            self.logger.warn(f"{self._path}: {self._left_out} tags left out, whose PMTs have no recorded form")
        return True

    def work(self, input_items: list[npt.NDArray[Any]], output_items: list[npt.NDArray[Any]]) -> int:
        """Write some items as one message; end the flowgraph where the file cannot be written.

        Parameters
        ----------
        input_items, output_items : list of numpy.ndarray
            Vectors per port, one per row.

        Returns
        -------
        int
            Items written, or -1.
        """
        items = input_items[0]
        if self._writer is None:
            return len(items) if self._path is None else -1
        first = self.nitems_read(0)
        tags = self._tags(len(items))
        header = encode_header(first, tags) if tags else b""
        try:
            self._writer.write(items.reshape(-1, self._users, self._antennas), header)
            self._writer.tick()
        except NflaeError as error:
            self.logger.error(str(error))
            return -1
        return len(items)

    def _tags(self, count: int) -> list[Tag]:
        found = []
        for tag in self.get_tags_in_window(0, 0, count):
            try:
                parts = [decode(pmt.serialize_str(value)) for value in (tag.key, tag.value, tag.srcid)]
            except (PmtError, RuntimeError):
                self._left_out += 1
            else:
                found.append(Tag(tag.offset, *parts))
        return found
