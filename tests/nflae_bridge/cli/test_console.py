"""Signals that arrive while the program is still being loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A call into a library that holds the lock of Python, as the loading of PyTorch's libraries does.
SLOW = 'import ctypes\nprint("loading", flush=True)\nctypes.PyDLL(None).sleep(60)\n'
# A suite in the background passes ignored signals on to its processes.
START = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from nflae_bridge.cli.console import main
main()
"""
COMMAND = ("train", "--preset", "tiny", "-o", "none")


def ended_by(number: int, slow: str, folder: Path) -> tuple[int, str]:
    """The exit status and stderr of a command that gets a signal while a slow package is imported."""
    (folder / f"{slow}.py").write_text(SLOW)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(
        [sys.executable, "-c", START, *COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout is not None
        assert any("loading" in line for line in process.stdout)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_pytorch_is_loaded_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    assert ended_by(number, "torch", tmp_path) == (-number, "")


def test_an_interrupt_before_the_command_is_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    assert ended_by(signal.SIGINT, "click", tmp_path) == (-signal.SIGINT, "")


INTERRUPTED = """
import atexit, os, signal, sys
import click
import nflae_bridge.cli.group
from nflae_bridge.cli.console import main

@click.command()
def command():
    print("work", flush=True)
    os.kill(os.getpid(), signal.SIGTERM if sys.argv[1] == "stop" else 0)

nflae_bridge.cli.group.CommandGroup.get_command = lambda self, ctx, name: command
atexit.register(print, "shutdown")
main()
"""


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("stop", (1, "work\n", "nflae: error: interrupted; an unfinished output is removed\n")),
        ("go", (0, "work\nshutdown\n", "")),
    ],
)
def test_an_interrupted_command_does_not_wait_for_the_shutdown(name: str, result: tuple[int, str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == result
