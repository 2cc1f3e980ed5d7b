"""Measure on one GPU, in one run of bounded time: tests, served answers, files, published networks, engine and schemes.

    python -m benchmarks.gpu_report -o gpu_report
    python -m benchmarks.gpu_report -o gpu_report --only tests,one_drop --seconds 200
    python -m benchmarks.gpu_report -o gpu_report --device cpu --brief      # tries the steps without a GPU

The steps, in order of worth, are processes of their own with limits of time; one that fails does not stop the next.
Tables go to report.md of the folder as they are made, the rest of the output to log.txt: a run that is cut off loses
only the rows under way. After each step stands whether its targets are met. With the defaults it takes up to nine
minutes. It needs the packages of `pip install '.[engine,train]' pytest hypothesis` and a PyTorch with CUDA, which pip
installs where it is given no other index.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

ROOT = Path(__file__).parents[1]
_GRACE = 5.0  # s, between the request to end and the end of a step
_NUMBER = r"([\d.]+)"


@dataclass(frozen=True)
class Target:
    """Hold a target of a step.

    Parameters
    ----------
    title
        Quantity and unit.
    pattern
        Regular expression of the row, with a group per number.
    limits
        Largest values, or with ``at_least`` smallest ones.
    at_least
        Whether larger is better.
    """

    title: str
    pattern: str
    limits: tuple[float, ...]
    at_least: bool = False

    def verdict(self, output: str) -> str:
        """Return one line on whether a step's output meets the target."""
        bound = f"{'at least' if self.at_least else 'at most'} {' / '.join(f'{limit:g}' for limit in self.limits)}"
        found = re.search(self.pattern, output)
        if found is None:
            return f"- **not measured**: {self.title} (target: {bound})"
        numbers = [float(number) for number in found.groups()]
        pairs = zip(numbers, self.limits, strict=True)
        met = all(number >= limit if self.at_least else number <= limit for number, limit in pairs)
        values = " / ".join(f"{number:g}" for number in numbers)
        return f"- {'met' if met else '**missed**'}: {self.title}: {values} (target: {bound})"


@dataclass(frozen=True)
class Step:
    """Hold a step.

    Parameters
    ----------
    name
        Name on the command line, and heading.
    command
        Arguments of Python.
    seconds
        Limit of time.
    targets
        Targets of its output.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    targets: tuple[Target, ...] = ()


TARGETS = {
    "one_drop": (
        Target(
            "one drop, all arrays, p50 / p99, us",
            rf"One drop, all arrays: p50 / p99 \| {_NUMBER} / {_NUMBER} us",
            (600, 1200),
        ),
        Target(
            "one drop with C3 and C4, all arrays, p50 / p99, us",
            rf"One drop with C3 and C4, all arrays: p50 / p99 \| {_NUMBER} / {_NUMBER} us",
            (800, 1400),
        ),
        Target("one drop by wmmse, p50, us", rf"One drop by `wmmse`.*? \| {_NUMBER} / ", (5000,)),
        Target("engine alone, C3 and C4, p50, us", rf"Engine alone with C3 and C4.*? \| {_NUMBER} / ", (350,)),
    ),
    "batches": (
        Target("eight clients by tcp / raw echo", rf" tcp: .*\n\| over a raw echo .*? \| {_NUMBER} ", (0.8,), True),
        Target("eight clients by shared memory, drops/s", rf"shared memory: .*? \| {_NUMBER} ", (300_000,), True),
    ),
    "files": (Target("`precode` over bare h5py", rf"\| without start-up \| .*? \| .*? \| {_NUMBER} \|", (1.5,)),),
    "published": (Target("published network, 100 drops, p50, us", rf"\| paper \| {_NUMBER} \|", (1500,)),),
}


def steps(device: str, brief: bool) -> list[Step]:
    """Return the steps in order of worth.

    Parameters
    ----------
    device
        Device of every step.
    brief
        Sizes that try the steps out and measure nothing.

    Returns
    -------
    list of Step
    """
    on, tests = ("--device", device), "tests/nflae_bridge"
    samples = ("--samples", "20" if brief else "1000")
    batches, repeats = ("1,20", "1") if brief else ("1,16,100,1024,4096", "50")
    size, rounds = ("0.005", "1") if brief else ("3", "3")
    served, times = ("-m", "benchmarks.served", *on), ("-m", "benchmarks.gpu_times", *on)
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")
    on_gpu = [f"{tests}/{part}" for part in ("engine", "files/test_upload.py", "api/test_tensors.py")]
    sized = ("--batches", batches, "--repeats", repeats)
    commands = {
        "tests": ((*pytest, "-m", "gpu", *on_gpu), 90),
        "one_drop": ((*served, "--only", "one_drop,engine", *samples), 90),
        "files": (("benchmarks/precode_file.py", *on, "--gigabytes", size, "--rounds", rounds), 110),
        "batches": ((*served, "--only", "batches", "--seconds", "3" if brief else "36"), 90),
        "published": ((*times, "--only", "published", "--repeats", repeats), 50),
        "answers": ((*times, "--only", "answers", *sized), 75),
        "one_drop_tiny": ((*served, "--only", "one_drop", "--model", "tiny", *samples), 60),
        "busy_polling": ((*served, "--only", "busy_polling", *samples), 40),
        "shipped": ((*times, "--only", "shipped", *sized), 75),
        "kernels": ((*pytest, f"{tests}/engine/test_triton_kernels.py"), 90),
    }
    targets = TARGETS if device.startswith("cuda") else {}
    return [Step(name, command, limit, targets.get(name, ())) for name, (command, limit) in commands.items()]


def run(step: Step, report: Path, log: BinaryIO, seconds: float) -> None:
    """Run a step, its output appended to the report, then its state and its targets.

    Parameters
    ----------
    step
        Step.
    report
        File of the tables.
    log
        File of everything else.
    seconds
        Limit of time.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)}
    began = time.monotonic()
    with report.open("ab") as output:
        output.write(f"\n## {step.name}\n\n".encode())
        output.flush()
        start = output.tell()
        command = [sys.executable, *step.command]
        child = subprocess.Popen(command, stdout=output, stderr=log, cwd=ROOT, env=environment, start_new_session=True)
        try:
            status = child.wait(seconds)
            state = "done" if status == 0 else f"**failed** (exit status {status}, see log.txt)"
        except subprocess.TimeoutExpired:
            state = f"**cut off** after {seconds:.0f} s"
        finally:
            end(child)
    with report.open("rb") as output:
        output.seek(start)
        text = output.read().decode(errors="replace")
    said = [f"\n{state}, {time.monotonic() - began:.0f} s", "", *(target.verdict(text) for target in step.targets)]
    with report.open("a") as output:
        output.write("\n".join(said).rstrip() + "\n")
    print(f"{step.name}:", *filter(None, map(str.strip, said)), sep="\n  ", flush=True)


def end(child: subprocess.Popen[bytes]) -> None:
    """End a step with all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def conditions(device: str) -> str:
    """Return the machine and the versions in one line of text."""
    found = torch.device(device)
    name = torch.cuda.get_device_name(found) if found.type == "cuda" else "CPU"
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return (
        f"{name}; PyTorch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()},"
        f" {os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f},"
        f" {time.strftime('%Y-%m-%d %H:%M')}, revision {revision.stdout.strip() or 'unknown'}"
    )


def main() -> None:
    """Run the steps named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in steps("cuda", False)]
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_report"), help="folder (default: gpu_report)")
    parser.add_argument("--device", default="cuda", help="device (default: cuda)")
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--seconds", type=float, default=530.0, help="time of all steps together (default: 530)")
    parser.add_argument("--brief", action="store_true", help="smallest sizes, to try the steps")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(names):
        parser.error(f"no step {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device: give --device cpu --brief to try the steps")
    options.output.mkdir(parents=True, exist_ok=True)
    report, last = options.output / "report.md", time.monotonic() + options.seconds
    report.write_text(f"# Report\n\n{conditions(options.device)}\n")
    with (options.output / "log.txt").open("wb") as log:
        for step in steps(options.device, options.brief):
            left = last - time.monotonic()
            if step.name in options.only.split(",") and left > _GRACE:
                run(step, report, log, min(step.seconds, left))
            elif step.name in options.only.split(","):
                report.write_text(f"{report.read_text()}\n## {step.name}\n\n**not run**: no time left\n")


if __name__ == "__main__":
    main()
