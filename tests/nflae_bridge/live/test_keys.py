"""CURVE keys: the files, and which addresses need them. Who is let in: test_bridge_survival."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq.auth

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import is_local
from nflae_bridge.live.keys import make_keys, read_client_keys, read_key_pair, read_public_key
from tests.channel_files import Run


def test_the_files_are_zeromq_certificates_and_the_secret_is_closed(tmp_path: Path) -> None:
    public, secret = make_keys(tmp_path / "new folder", "lab")
    assert sorted(path.name for path in public.parent.iterdir()) == ["lab.key", "lab.key_secret"]
    assert zmq.auth.load_certificate(secret) == read_key_pair(secret)
    assert read_public_key(public) == read_public_key(secret) == zmq.curve_public(read_key_pair(secret)[1])
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    read_client_keys(public.parent)


def test_keys_are_never_overwritten(nflae: Run, tmp_path: Path) -> None:
    assert nflae("keys", "lab", tmp_path).exit_code == 0
    before = (tmp_path / "lab.key_secret").read_bytes()
    again = nflae("keys", "lab", tmp_path)
    assert again.exit_code == 1
    assert again.stderr.count("\n") == 1
    assert "lab.key exists already" in again.stderr
    assert (tmp_path / "lab.key_secret").read_bytes() == before


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    public, _ = make_keys(tmp_path, "lab")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "empty").mkdir()
    for path in ("text", "bytes", "missing", "empty"):
        with pytest.raises(NflaeError, match=path):
            read_public_key(tmp_path / path)
    with pytest.raises(NflaeError, match="no secret key"):
        read_key_pair(public)
    with pytest.raises(NflaeError, match=r"no NAME\.key file"):
        read_client_keys(tmp_path / "empty")
    with pytest.raises(NflaeError, match="not a folder"):
        read_client_keys(tmp_path / "text")


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:5555",
        "tcp://127.1.2.3:*",
        "tcp://localhost:1",
        "tcp://[::1]:5555",
        "ipc:///tmp/x",
        "inproc://x",
    ],
)
def test_addresses_that_stay_on_this_machine(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://eth0:5555", "tcp://10.0.0.1:5555", "tcp://[::]:5555", "tcp://lo:1"],
)
def test_addresses_that_others_reach(address: str) -> None:
    assert not is_local(address)
