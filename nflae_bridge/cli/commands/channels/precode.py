"""Implement ``nflae precode``: labels, precoders and powers for the channels of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import (
    ChannelOptions,
    WorkOptions,
    budget_options,
    channel_options,
    near_field_option,
    refuse_options,
    work_options,
)
from nflae_bridge.cli.options.plot import PlotOptions, plot_options
from nflae_bridge.cli.options.prediction import PredictionOptions, prediction_options
from nflae_bridge.cli.options.problem import problem_options
from nflae_bridge.cli.options.scheme import NETWORK, SchemeOption, refuse_network_options
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import announce, fact, progress, warn
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest
from nflae_bridge.files.problem import ProblemRequest, choose_problem, problem_budget, problem_info, streams_of

if TYPE_CHECKING:
    import torch

    from matlab_io import ChannelFile, ResultFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.csi.prediction import FilePredictor
    from nflae_bridge.files.labels import LabelSource
    from nflae_bridge.files.precode_file import Summary
    from simulator.downlink.budget import LinkBudget
    from simulator.downlink.precoding import Scheme
    from simulator.problems.problem import PrecodingProblem

_MOSTLY = 0.9  # of the drops: from here on the network is not worth its time


@click.command(
    "precode",
    short_help="Compute labels, precoders and powers for a file.",
    epilog="""\b
    Examples:
      nflae precode channels.mat -o precoders.mat
      nflae precode quadriga.mat -o w.mat --var chan.H --layout knfs --convention direct
      nflae precode channels.mat -o w.mat --alpha-c 0.4 --min-rate 0.6 --plot users.png
      nflae precode channels.mat -o w.mat --scheme wmmse
      nflae precode flight.mat -o w.mat --ahead 2               for the channels 2 snapshots after each drop
      nflae precode channels.mat -o w.mat --rf-chains 8 --phase-bits 3

    \b
    Variables of OUT.mat (MATLAB order; N antennas, K users, S drops):
      precoder                                                        N x K x S
      power, lambda, near_field_score, sinr, rate, near_field         K x S
      sum_rate, feasible, fallback                                    1 x S
      nflae_info                                                      struct
    Transmit x = W diag(sqrt(p)) s. With subcarriers, S stands for F x S: each has its own sum_rate and the whole P, or
    with --power-scope a share of it. A hybrid array adds analog and digital, --receive-antennas joint the combiners and
    an axis of streams before that of users.
    """,
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.mat",
    help="File of the results; replaced once they are complete.",
)
@click.option(
    "--scheme",
    "name",
    cls=SchemeOption,
    default="nflae",
    show_default=True,
    problems=True,
    help="Precoding scheme, with its own options, e.g. wmmse:iterations=50.",
)
@channel_options
@near_field_option
@budget_options
@problem_options
@work_options
@click.option(
    "--mat-version",
    type=click.Choice(["6", "7", "7.3"]),
    help="Version of OUT.mat.  [default: that of IN.mat]",
)
@prediction_options(
    None, "Take the drops as snapshots in order, and precode for the channel predicted this many snapshots after each."
)
@plot_options
def command(
    source: Path,
    output: Path,
    name: str,
    labels: str | None,
    mat_version: str | None,
    prediction: PredictionOptions,
    reading: ChannelOptions,
    request: BudgetRequest,
    wanted: ProblemRequest,
    work: WorkOptions,
    plotting: PlotOptions,
) -> None:
    """Compute near-field labels, precoders and powers for the channels in IN.mat.

    IN.mat is a MATLAB or Octave file of version 4 to 7.3. One of version 7.3 is read and written block by block, so its
    size is not limited by the memory; files of earlier versions are read whole.
    """
    from nflae_bridge.cli.options.plot import check_plot, check_plot_drop, draw_users, precode_drop_to_plot

    _refuse_network_options(name, wanted)
    _check_prediction(prediction, plotting)
    refuse_mat_version(output)
    check_plot(plotting, forbidden=(source, output))
    with reading.open(source, joint=True) as file:
        problem, choice = choose_problem(wanted, request, file, progress)
        budget = _checked_budget(problem, choice, file, name, prediction, plotting)
        check_plot_drop(plotting, file)
        announce(file, choice, request.yes)
        from nflae_bridge.engine.devices import choose_device
        from nflae_bridge.files.precode_file import precode_file
        from nflae_bridge.network.shipped import model_folder

        model = model_folder(work.model, (device := choose_device(work.device)).type).resolve().name
        predictor = _predictor(file, prediction, device)
        batch = _drops_per_block(file, work, predictor, problem, device)
        many = file.drops > batch
        label_source, origin = _labels(file, labels, name if problem.is_plain else "", work.model, device, many)
        # The output first, so that one that cannot be written is reported before the model is loaded.
        info = _info(file, choice, name, model, work.refine) | {"labels": origin} | prediction.info()
        results = _result_file(output, mat_version or file.version, file, info, problem)
        scheme = _scheme(problem, name, work, str(device), many)
        with_model = f" (model {model})" if problem.starts_from_network else ", an exact algorithm without a network,"
        fact("scheme", f"{name}{with_model if name == NETWORK else ''} on {device}")
        fact("labels", origin)
        picture = None
        if plotting.plot is not None:  # before the work, so that a size without room for it is refused before
            shown = precode_drop_to_plot(plotting, file, name, scheme, budget, device, choice.noise, label_source)
            picture = None if shown is None else draw_users(plotting.plot, shown, plotting.look)
        with results, progress("precode", file.drops, "drops") as advance:
            how = (work.on_bad_drop, advance, choice.noise, label_source, predictor)
            summary = precode_file(file, results, scheme, budget, device, batch, *how)
        if picture is not None:
            picture.save()
    for note in {} if predictor is None else predictor.notes:
        warn(note)
    _report(summary, name, problem, budget.demands_rates, choice.sum_rate_scope, file.users < file.antennas)
    fact("written", f"{output} (version {results.version})" + (f", {plotting.plot}" if picture else ""))


def _checked_budget(
    problem: PrecodingProblem,
    choice: BudgetChoice,
    file: ChannelFile,
    name: str,
    prediction: PredictionOptions,
    plotting: PlotOptions,
) -> LinkBudget:
    """Return the link budget of a problem, which the scheme solves."""
    from simulator.problems.combinations import check_combination
    from simulator.schemes.options import split_spec

    if problem.is_plain:
        check_combination(problem, choice.link_budget(), split_spec(name)[0])
        return choice.link_budget()
    from simulator.problems.dispatch import check_problem_scheme

    budget = problem_budget(problem, choice, file.antennas)
    check_problem_scheme(problem, budget, name)
    if plotting.plot is not None:
        raise click.UsageError(
            "--plot draws the plain sum rate under one total power: leave it out with other problems"
        )
    if prediction.ahead is not None and (problem.drops_together > 1 or problem.joint_receivers):
        raise click.UsageError(
            "--ahead precodes drops of one receive antenna one by one: leave it out with this problem"
        )
    fact("problem", ", ".join(sorted(problem.parts)))
    return budget


def _drops_per_block(
    file: ChannelFile,
    work: WorkOptions,
    predictor: FilePredictor | None,
    problem: PrecodingProblem,
    device: torch.device,
) -> int:
    """Return the number of drops per block, a multiple of those that are solved together."""
    from nflae_bridge.files.precode_file import drops_per_file_block

    history = 1 if predictor is None else predictor.history
    batch = work.batch or drops_per_file_block(file.users, file.antennas, history, device.type)
    return batch + -batch % problem.drops_together


def _scheme(problem: PrecodingProblem, name: str, work: WorkOptions, device: str, many: bool) -> Scheme:
    """Load the scheme, or the algorithm of a problem with the network inside."""
    from nflae_bridge.engine.schemes import load_network, load_scheme
    from simulator.problems.dispatch import ProblemScheme

    if problem.is_plain:
        return load_scheme(name, work.model, device, work.refine, many)
    return ProblemScheme(problem, load_network(work.model, device, work.refine, many), name)


def _result_file(
    output: Path, version: str, file: ChannelFile, info: dict[str, Value], problem: PrecodingProblem
) -> ResultFile:
    """Prepare the file of the results and print its notes."""
    from matlab_io import ResultFile

    streams = streams_of(problem, file.receive_antennas, file.antennas)
    info = _as_rates(info | problem_info(problem), file, streams, output.suffix.lower() == ".npz")
    results = ResultFile(
        output,
        version=version,
        antennas=file.antenna_axes,
        users=file.users,
        drop_axes=file.drop_axes,
        convention=file.convention,
        info=info,
        inputs=[file.path],
        receive_antennas=file.receive_antennas if file.receive_mode in ("strongest", "eigen", "joint") else None,
        streams=streams,
        rf_chains=problem.rf_chains,
    )
    for note in results.notes:
        warn(note)
    return results


def _as_rates(info: dict[str, Value], file: ChannelFile, streams: int, reverses: bool) -> dict[str, Value]:
    """Give noise powers and weights per user axes that expand to those of ``rate``, reversed for numpy."""
    import numpy as np

    oriented = dict(info)
    if "weights" in info:  # (users,) or (drops, users)
        weights = np.asarray(info["weights"])
        oriented["weights"] = weights.T.reshape(
            (file.users, *(file.drop_axes if weights.ndim > 1 else (1,))), order="F"
        )
    for name in ("noise_power", "weights"):
        value = oriented.get(name)
        if isinstance(value, np.ndarray):
            value = value[None] if streams > 1 else value
            oriented[name] = value.T if reverses else value
    return oriented


def _refuse_network_options(name: str, wanted: ProblemRequest) -> None:
    """Refuse options of the network where it takes no part."""
    remedy = f"applies to --scheme nflae only; leave it out with {name}."
    refuse_network_options((name,), remedy, wanted.objective)
    if name != NETWORK:
        refuse_options(remedy, ("model",))


def _check_prediction(prediction: PredictionOptions, plotting: PlotOptions) -> None:
    """Refuse options of the prediction without ``--ahead``, and a plot of predicted drops."""
    if prediction.ahead is None:
        for option in prediction.given():
            raise click.UsageError(f"{option} applies to --ahead only; give --ahead SNAPSHOTS too")
    elif plotting.plot is not None:
        raise click.UsageError("--plot draws a drop of IN.mat: leave it out with --ahead")


def _predictor(file: ChannelFile, prediction: PredictionOptions, device: torch.device) -> FilePredictor | None:
    if prediction.ahead is None:
        return None
    fact("prediction", f"{prediction.describe()}; the rates hold if it is exact")
    return prediction.predictor(file, "auto", str(device))


def _labels(
    file: ChannelFile, wanted: str | None, name: str, model: str, device: torch.device, many: bool
) -> tuple[LabelSource, str]:
    """Return the source of the labels, and its name: the file, for a panel fitted waves, else the network."""
    from nflae_bridge.engine.schemes import load_network
    from nflae_bridge.files.labels import LabelSource, describe_panel_labels, fitted_labels, read_labels, stated_panel
    from nflae_bridge.network.shipped import model_folder

    given, origin = read_labels(file, wanted)
    if given is not None:
        return LabelSource(given), origin
    panel = stated_panel(file, wanted)
    if panel is not None:
        return fitted_labels(panel), describe_panel_labels(panel, file, wanted)
    score = None if name == NETWORK else load_network(model, str(device), many_batches=many).near_field_score
    return LabelSource(score=score), f"network (model {model_folder(model, device.type).resolve().name})"


def _info(file: ChannelFile, choice: BudgetChoice, name: str, model: str, refine: int) -> dict[str, Value]:
    import numpy as np

    from matlab_io.version import __version__
    from simulator.schemes import needs_sic

    return {
        "scheme": name,
        "receiver": "sic" if needs_sic(name) else "linear",
        "model": model if name == NETWORK else "",
        "refine": refine,
        "version": __version__,
        "input": str(file.path),
        "variable": file.variable,
        "layout": file.layout,
        "antenna_axes": np.array(file.antenna_axes, np.float64),
        "receive_antennas": file.receive_mode,
        "convention": file.convention,
        "power": choice.power.value,
        "power_scope": choice.power_scope,
        "power_per_subcarrier": choice.power_per_subcarrier,
        "noise_power": choice.noise_for_file(),
        "median_snr_db": choice.median_snr_db,
        "sum_rate_of": "subcarrier" if "f" in file.layout else "drop",
        "alpha_c": choice.alpha_c.value,
        "min_rate": choice.min_rate.value,
    }


def _report(
    summary: Summary, name: str, problem: PrecodingProblem, demands_rates: bool, scope: str, all_served: bool
) -> None:
    from simulator.schemes import needs_sic

    served = summary.drops - summary.skipped
    fact("drops", f"{summary.drops} in {summary.seconds:.2f} s ({summary.drops / summary.seconds:.0f} drops/s)")
    if summary.skipped:
        noun = "drop" if summary.skipped == 1 else "drops"
        fact("skipped", f"{summary.skipped} bad {noun}: NaN in the results, near_field and feasible false")
    if not served:
        return
    near = summary.near_field_users / summary.users
    if problem.objective != "sum-rate" or problem.weights is not None:
        fact("mean objective", f"{summary.mean_objective:.3f}{_meaning(problem)}")
    fact("mean sum rate", f"{summary.mean_sum_rate:.3f} bps/Hz{scope}")
    fact("near-field users", f"{100 * near:.1f} % ({summary.near_field_users} of {summary.users})")
    if summary.undecided:
        fact("undecided users", _undecided(summary))
    if demands_rates:
        fact("min_rate missed", f"on {summary.infeasible} of {served} drops: feasible is false there")
    if needs_sic(name):
        fact("receivers", f"the rates of {name} need users that decode and cancel the messages of others (SIC)")
    if name == NETWORK and problem.is_plain:
        meaning = _fallback_meaning(summary.fallback, served, all_served)
        fact("fallback to RZF", f"on {summary.fallback} of {served} drops: {meaning}")
    elif name == NETWORK and problem.starts_from_network:
        meaning = "every result is that of the algorithm started from the network"
        if summary.fallback:
            meaning = "the textbook solution of the problem, or what starts from it, is the better one there"
        fact("fallback", f"on {summary.fallback} of {served} drops: {meaning}")


def _meaning(problem: PrecodingProblem) -> str:
    """Return the unit and the name of a problem's objective."""
    if problem.objective == "max-min":
        return " bps/Hz, the smallest rate of a drop"
    if problem.objective == "proportional-fair":
        return ", the sum over users of ln(mean rate in bps/Hz)"
    together = f" of {problem.subcarriers} subcarriers" if problem.drops_together > 1 else ""
    return f" bps/Hz, the weighted sum rate{together}"


def _undecided(summary: Summary) -> str:
    share = 100 * summary.undecided / summary.users
    return (
        f"{share:.1f} % ({summary.undecided} of {summary.users}): their channels are not a single spherical wave"
        " (scattering); near_field_score is 0.5 and their labels are not reliable, --near-field VAR takes yours"
    )


def _fallback_meaning(fallback: int, served: int, all_served: bool = True) -> str:
    """Say what the number of drops on which a classical result is returned means for the reader."""
    if not fallback:
        return "every result is that of the network"
    meaning = "a classical result is the better one there and is returned, the others are those of the network"
    if fallback == served:
        meaning = "a classical result is the better one on every drop and is returned"
    if not all_served:
        meaning += "; with as many users as antennas or more, RZF is that of selected users"
    elif fallback >= _MOSTLY * served:
        meaning += "; the network adds next to nothing on these channels, --scheme rzf serves them in less time"
    return meaning
