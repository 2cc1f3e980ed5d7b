"""Settings of a server that are not served: one line each, which names the setting, before an address is bound."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nflae_bridge.live.errors import NflaeError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server import ServerSettings, loop, serve
from nflae_bridge.live.server.transport import check_transport
from tests.nflae_bridge.live.test_client_arguments import (
    HUGE,
    LONG,
    NO_NUMBERS,
    NO_PATHS,
    NO_TEXTS,
    NO_WHOLE_NUMBERS,
    check_one_line,
)
from tests.ports import free_tcp_port

NO_COUNTS = (None, 0, -1, HUGE, *NO_WHOLE_NUMBERS)
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
NO_FLAGS: tuple[Any, ...] = (None, 0, 1, "yes", [], LONG)
NO_ADDRESSES: tuple[Any, ...] = (
    *(None, "", (), [], "tcp://127.0.0.1:5555", b"tcp://127.0.0.1:5555", 1, LONG, {"tcp://127.0.0.1:5555"}),
    *[(each,) for each in (None, 1, b"x", "", "x", "tcp://h", "tcp://h:99999", "tcp://h:80x", "ipc://", "udp://h:5")],
)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "bind": NO_ADDRESSES,
    **dict.fromkeys(("model", "device"), (None, "", "no\0name", "x" * 10**6, *NO_TEXTS)),
    **dict.fromkeys(("max_batch", "queue", "queue_bytes", "max_message_bytes", "max_users", "max_drops"), NO_COUNTS),
    "max_wait": (None, -1, 1e7, *NOT_FINITE, *NO_NUMBERS),
    "effort": ("", "x" * 5000, 1, True, b"fast"),
    "busy_poll": (None, -1e-6, 1.1, *NOT_FINITE, *NO_NUMBERS),
    "max_seconds": (None, 0, -1, 1e7, *NOT_FINITE, *NO_NUMBERS),
    "grace": (None, -1e-9, 1e7, *NOT_FINITE, *NO_NUMBERS),
    **dict.fromkeys(("server_key", "client_keys"), ("", "no\0path", "x" * 5000, *NO_PATHS)),
    **dict.fromkeys(("insecure", "shared_memory"), NO_FLAGS),
    "metrics_port": (0, -1, 65536, HUGE, *NO_WHOLE_NUMBERS),
    "view": ("127.0.0.1:8080", 8080, True, [], {"address": "127.0.0.1:8080"}),
}


def test_every_setting_is_swept() -> None:
    assert {field.name for field in fields(ServerSettings)} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_out_of_their_type_or_range(name: str, tmp_path: Path) -> None:
    rest = dict.fromkeys({"server_key", "client_keys"} - {name}, tmp_path) if name.endswith(("key", "keys")) else {}
    for value in SETTINGS[name]:
        with pytest.raises(NflaeError) as raised:
            ServerSettings(**{**rest, name: value})
        check_one_line(raised, name)


def test_settings_are_converted_to_their_types(tmp_path: Path) -> None:
    settings = ServerSettings(
        bind=["tcp://127.0.0.1:*"],  # type: ignore[arg-type]
        max_batch=np.int16(3),  # type: ignore[arg-type]
        max_seconds=np.float32(2),  # type: ignore[arg-type]
        max_wait=0,
        server_key=str(tmp_path),  # type: ignore[arg-type]
        client_keys=tmp_path,
        insecure=np.True_,  # type: ignore[arg-type]
    )
    assert settings.bind == ("tcp://127.0.0.1:*",)
    assert [type(each) for each in (settings.max_batch, settings.max_seconds, settings.max_wait)] == [int, float, float]
    assert settings.server_key == settings.client_keys == tmp_path
    assert settings.insecure is True


def test_one_key_alone_is_named(tmp_path: Path) -> None:
    for name in ("server_key", "client_keys"):
        with pytest.raises(NflaeError, match="server_key and client_keys must be given together"):
            ServerSettings(**{name: tmp_path / "a"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", None),
        ("settings", {"bind": ("tcp://127.0.0.1:0",)}),
        ("log", None),
        ("log", "info"),
        ("model", "no such model"),
        ("model", "."),
        ("effort", "slow"),
        ("device", "gpu9"),
        ("device", "cuda:99"),
        ("device", "cuda:-1"),
        ("device", "cuda:99999999999999999999"),
        ("device", "meta"),
    ],
)
def test_a_server_that_cannot_start_binds_no_address(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[ServerSettings] = []
    monkeypatch.setattr(loop, "open_transport", lambda settings, log: opened.append(settings))
    bind = (f"tcp://127.0.0.1:{free_tcp_port()}",)
    arguments: dict[str, Any] = {"settings": ServerSettings(bind=bind), "log": EventLog("error")}
    if name in arguments:
        arguments[name] = value
    else:
        arguments["settings"] = ServerSettings(bind=bind, **{name: value})
    with pytest.raises(NflaeError) as raised:
        serve(**arguments)
    check_one_line(raised, name)
    assert not opened


UNUSABLE = """
import sys
from pathlib import Path
from nflae_bridge.live.errors import NflaeError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server import ServerSettings, serve
from nflae_bridge.live.view.address import ViewSettings
free, (busy, other) = "tcp://127.0.0.1:*", map(int, sys.argv[1:3])
view, twice = ViewSettings(f"127.0.0.1:{busy}"), f"tcp://127.0.0.1:{other}"
keys = {"server_key": Path("server.key_secret"), "client_keys": Path(".")}
cases = [((each,), {}) for each in sys.argv[3:]]
cases += [((free,), {"device": "gpu"}), ((free,), {"device": "meta"}), ((free,), {"device": "cuda:-1"})]
cases += [((free,), {"model": "nanno"}), ((free,), {"metrics_port": busy}), ((free,), {"view": view}), ((free,), keys)]
cases += [((twice, f"tcp://localhost:{other}"), {}), ((twice,), {"metrics_port": other})]
cases += [(("ipc://x", "ipc://./x"), {})]
for bind, more in cases:
    try:
        serve(ServerSettings(bind=bind, **more), EventLog("error"))
    except NflaeError as error:
        print(error)
print("torch" in sys.modules)
"""


def test_addresses_keys_device_and_model_are_checked_before_pytorch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no socket")
    (tmp_path / "folder").mkdir(mode=0o500)
    with socket.create_server(("127.0.0.1", 0)) as other:
        unusable = {
            f"tcp://127.0.0.1:{other.getsockname()[1]}": "it is in use by another program",
            "tcp://0.0.0.0:5555": "is in reach of other machines",
            f"ipc://{tmp_path}/nowhere/socket": "its folder does not exist",
            f"ipc://{tmp_path}/file": "a file that is not a socket",
            f"ipc://{tmp_path}/{'x' * 108}": "its path is too long",
        }
        if os.geteuid():
            unusable[f"ipc://{tmp_path}/folder/socket"] = "permission denied"
        busy, free = str(other.getsockname()[1]), str(free_tcp_port())
        command = [sys.executable, "-c", UNUSABLE, busy, free, *unusable]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    *refusals, has_torch = done.stdout.splitlines()
    others = {
        "no device is called 'gpu'": "try auto, cpu, cuda or cuda:0",
        "no device is called 'meta'": "try auto, cpu, cuda or cuda:0",
        "no device is called 'cuda:-1'": "try auto, cpu, cuda or cuda:0",
        "no model 'nanno'": "nano",
        f"--metrics-port {busy}": "address already in use; give another port",
        f"--http 127.0.0.1:{busy}": "address already in use; give another port",
        "server.key_secret": "",
        f"--bind tcp://localhost:{free}": f"is that of --bind tcp://127.0.0.1:{free}: give another address",
        f"--metrics-port {free}": f"is that of --bind tcp://127.0.0.1:{free}: give another address",
        "--bind ipc://./x": "is that of --bind ipc://x",
    }
    for refusal, (address, words) in zip(refusals, (unusable | others).items(), strict=True):
        assert address in refusal
        assert words in refusal
    assert has_torch == "False"


def test_a_check_of_addresses_leaves_files_and_waiting_clients_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(tmp_path / "socket"))
    port = free_tcp_port()
    bind = (f"ipc://{tmp_path}/socket", f"ipc://{tmp_path}/new", f"tcp://127.0.0.1:{port}", "ipc://@nflae-check")
    ended, failures = threading.Event(), list[str]()

    def connect() -> None:
        while not ended.is_set():
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) != errno.ECONNREFUSED:
                    failures.append("connected")

    thread = threading.Thread(target=connect)
    thread.start()
    for _ in range(200):
        check_transport(ServerSettings(bind=bind))
    ended.set()
    thread.join()
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["socket"]
