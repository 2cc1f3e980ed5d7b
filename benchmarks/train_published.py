"""Train the published network and its rivals in full on a GPU, and measure what they reach.

    python benchmarks/train_published.py -o results/trained                  all of it, on one GPU
    python benchmarks/train_published.py -o results/trained --minutes 10     stops in time; the same command continues
    python benchmarks/train_published.py -o /tmp/smoke --smoke               every stage at a tiny size, on a CPU

Networks: GPT-2 raw with a RANDOM backbone trained as a whole (paper), with a random backbone whose attention and MLP
are frozen (paper-frozen), the Transformer and the CNN, each for 500 epochs of 8,000 drops in batches of 100, K = 10,
alpha_c = 0.4, R_min = 0.6, gamma_2 = 5. Stages, each kept once it is done:

    steps.csv            time per training step, by CUDA graph and kernel by kernel, and how far their losses differ
    runs/                the trainings, resumable
    convergence, accuracy, cost    Fig. 5 and Tables I and II, as `nflae reproduce` makes them
    se-k10               the point K = 10, alpha_c = 0.4, R_min = 0.6, 0 dBW, which Figs. 6 to 9 have in common
    backbones.csv        the trained against the frozen random backbone
"""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from nflae_bridge.studies.reproduction import load_experiment, runner
from nflae_bridge.studies.reproduction import study as study_module
from nflae_bridge.studies.reproduction.compute_budget import FULL, QUICK
from nflae_bridge.studies.reproduction.experiment import Experiment
from nflae_bridge.studies.reproduction.experiments import cost
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.scheme_metrics import evaluate_scheme, label_accuracy, own_labels
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import baseline_recipe, continue_training
from nflae_bridge.tasks.task import task_of
from nflae_bridge.training.loop import LOG, learning_rate
from nflae_bridge.training.presets import FROZEN_RANDOM_BACKBONE, RANDOM_BACKBONE
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.steps.step import TrainingStep
from simulator.csi.impairments import noisy_csi
from simulator.downlink.optimiser import optimise

COMPARED, TIMED, EARLY_EPOCHS, CSI_SNR_DB = 20, 100, 30, 20.0


def machine(device: torch.device) -> str:
    """Return the device's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def recipes(study: Study, frozen: Study) -> dict[str, Recipe]:
    """Return the recipe of each training, by name."""

    def of(network: str, which: Study) -> Recipe:
        return baseline_recipe(network, PUBLISHED, which.compute_budget, which.backbone, which.seed)

    return {
        "paper": of("paper", study),
        "paper-frozen": of("paper", frozen),
        "transformer": of("transformer", study),
        "cnn": of("cnn", study),
    }


def losses_and_time(
    chosen: Recipe, device: torch.device, captured: bool, counts: tuple[int, int]
) -> tuple[list[float], float, str]:
    """Take steps from the recipe's start; return the first losses, the mean time of later ones (ms) and a refusal."""
    torch.manual_seed(chosen.seed)
    task = task_of(chosen.network)
    network = task.build(chosen.network, False).to(device)
    step = TrainingStep(network, task, chosen, device)
    if not captured:
        step.captured = None

    def take(number: int) -> torch.Tensor:
        batch = chosen.data.training(chosen.seed, number, device).to(device)
        return step.take(batch, learning_rate(chosen, number))[0]

    compared, timed = counts
    losses = [float(take(number)) for number in range(compared)]
    began = time.perf_counter()
    values = torch.stack([take(compared + number) for number in range(timed)])
    values.cpu()  # waits for all of them
    refused = "" if step.captured is None else step.captured.refused
    return losses, 1e3 * (time.perf_counter() - began) / timed, refused


def time_steps(path: Path, chosen: dict[str, Recipe], device: torch.device, counts: tuple[int, int]) -> None:
    """Write the time per step of each network, drawing its batch included, by graph and kernel by kernel."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("network", "captured_ms", "plain_ms", "largest_difference_of_losses", "refused", "machine", "torch")
        )
        for name, recipe in chosen.items():
            plain, plain_ms, _ = losses_and_time(recipe, device, False, counts)
            row: tuple[str, str, str] = ("", "", "no CUDA device")
            if device.type == "cuda":
                graph, graph_ms, refused = losses_and_time(recipe, device, True, counts)
                apart = max(abs(one - other) for one, other in zip(graph, plain, strict=True))
                row = (f"{graph_ms:.3f}", f"{apart:.3g}", refused)
            writer.writerow((name, row[0], f"{plain_ms:.3f}", *row[1:], machine(device), torch.__version__))
            print(f"{name}: {row[0] or '-'} ms by graph, {plain_ms:.1f} ms kernel by kernel {row[2]}", flush=True)


def train_all(study: Study, chosen: dict[str, Recipe], deadline: float) -> list[str]:
    """Train until all are finished or the deadline has come; return the names of those that are not finished."""
    left = []
    for name, recipe in chosen.items():
        minutes = (deadline - time.monotonic()) / 60
        began = time.monotonic()
        if minutes <= 0 or not continue_training(name, recipe, study.folder / "runs", study.device, quiet, minutes):
            left.append(name)
        print(f"{name}: {'stopped' if name in left else 'trained'}, {time.monotonic() - began:.0f} s", flush=True)
    return left


def quiet(note: str) -> None:
    """Ignore a note on progress."""


def experiments() -> list[Experiment]:
    """Return Fig. 5, Tables I and II, and the point that Figs. 6 to 9 have in common."""
    by_users = load_experiment("se-users")
    point = replace(
        by_users,
        name="se-k10",
        title="Spectral efficiency at K = 10, alpha_c = 0.4, R_min = 0.6, 0 dBW",
        source="Figs. 6 to 9",
        units=lambda study: [unit for unit in by_users.units(study) if unit.key == "10"],
    )
    return [point, *map(load_experiment, ("convergence", "accuracy", "cost"))]


def compare_backbones(path: Path, trained: Study, frozen: Study) -> None:
    """Write validation losses, sum rate and accuracy of the trained and of the frozen random backbone."""
    budget = trained.compute_budget
    drops = PUBLISHED.draw(budget.test_drops, trained.seed + PUBLISHED.users)
    csi = noisy_csi(drops.channels, CSI_SNR_DB, torch.Generator().manual_seed(trained.seed + 1))
    channels, near = drops.channels.to(trained.device), drops.near_field.to(trained.device)
    rows = []
    for kind, study in (("trained", trained), ("frozen", frozen)):
        checkpoint, folder = study.run_of("paper", PUBLISHED, quiet)
        log = pd.read_csv(folder / LOG).dropna(subset="validation_loss")
        epochs = log["step"] * budget.batch / budget.train_drops
        early = log[epochs <= EARLY_EPOCHS]["validation_loss"]
        scheme = study.scheme("paper", PUBLISHED, quiet)
        parameters = checkpoint.network.parameter_counts()
        rows.append(
            {
                "random_backbone": kind,
                "trained_parameters": parameters[0],
                "parameters": parameters[1],
                "epochs": epochs.iloc[-1],
                f"validation_loss_{EARLY_EPOCHS}_epochs": early.iloc[-1],
                "validation_loss_last": log["validation_loss"].iloc[-1],
                "validation_loss_best": log["validation_loss"].min(),
                "sum_rate": evaluate_scheme(scheme, channels, near, PUBLISHED.constrained).mean,
                f"accuracy_{CSI_SNR_DB:g}_db": label_accuracy(own_labels(scheme, csi), drops.near_field),
                "drops": len(near),
            }
        )
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")


def shrink(folder: Path) -> tuple[str, str]:
    """Reduce drops and repeats of all stages, and make two tiny backbones; return their folders."""
    import transformers

    draw = OperatingPoint.draw
    OperatingPoint.draw = lambda point, drops, seed: draw(point, min(drops, 4), seed)  # type: ignore[method-assign]
    cost._DROPS, cost._REPEATS = 4, {"quick": 1}
    study_module.optimise = partial(optimise, steps=3)  # type: ignore[assignment]
    shape = transformers.GPT2Config(
        vocab_size=2, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    folders = [folder / "backbones" / name for name in ("trained", "frozen")]
    for each in folders:
        if not each.exists():
            transformers.GPT2Model(shape).save_pretrained(each)
    return str(folders[0]), str(folders[1])


def studies(output: Path, device: torch.device, smoke: bool) -> tuple[Study, Study]:
    """Return the runs with the trained and with the frozen random backbone."""
    backbones, budget = (RANDOM_BACKBONE, FROZEN_RANDOM_BACKBONE), FULL
    if smoke:
        backbones = shrink(output)
        steps = dict.fromkeys(QUICK.steps, 2)
        budget = replace(QUICK, test_drops=4, train_drops=8, validation_drops=4, batch=4, steps=steps)
    first, second = (Study(output, budget, backbone, 2026, device) for backbone in backbones)
    return first, second


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options and run the stages that are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop the trainings after this time")
    parser.add_argument("--smoke", action="store_true", help="run every stage at a tiny size; its results say nothing")
    given = parser.parse_args(arguments)
    deadline, device = time.monotonic() + 60 * given.minutes, torch.device(given.device)
    given.output.mkdir(parents=True, exist_ok=True)
    study, frozen = studies(given.output, device, given.smoke)
    chosen = recipes(study, frozen)
    steps = given.output / "steps.csv"
    if not steps.exists():
        time_steps(steps, chosen, device, (1, 1) if given.smoke else (COMPARED, TIMED))
    left = train_all(study, chosen, deadline)
    if left:
        print(f"not finished: {', '.join(left)}; the same command continues")
        return 0
    for experiment in experiments():
        began = time.monotonic()
        runner.run(experiment, study, lambda done, note, left: None)
        print(f"{experiment.title}: {time.monotonic() - began:.0f} s", flush=True)
    compare_backbones(given.output / "backbones.csv", study, frozen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
