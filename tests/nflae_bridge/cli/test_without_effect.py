"""Options that would have no effect beside the others are refused by name, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.channel_files import Run, WriteMat, random_channels

LINK = ("link", "-o", "out", "--scheme", "mrt")
EVALUATE = ("evaluate", "in.mat", "--layout", "nks")
BENCH = ("bench", "-o", "out", "--schemes", "rzf")
CDF = (*EVALUATE, "--csi", "noisy:10", "--plot", "out")
STREAM = ("stream", "--csi", "pull:ipc://a", "--labels", "push:ipc://b", "--users", 2, "--antennas", 4)
TRAINED = ("beams", "evaluate", "road", "-o", "out", "--model", "model")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*LINK, "in.mat", "--users", 3), "--users belongs to --scenario: leave it out with in.mat."),
        ((*LINK, "in.mat", "--antennas", 256), "--antennas belongs to --scenario"),  # the default, but typed
        ((*LINK, "in.mat", "--speed", 5), "--speed belongs to --scenario"),
        ((*LINK, "in.mat", "--refine", 1), "--refine belongs to scheme nflae"),
        ((*LINK, "in.mat", "--effort", "fast"), "--effort belongs to scheme nflae"),
        ((*LINK, "--scenario", "uav", "--model", "tiny"), "--model belongs to scheme nflae, and to labels"),
        ((*LINK, "--scenario", "uav", "--layout", "nks"), "--layout belongs to IN.mat: leave it out with --scenario."),
        ((*LINK, "--scenario", "uav", "--var", "H"), "--var belongs to IN.mat"),
        ((*LINK, "--scenario", "uav", "--max-inflate", 5), "--max-inflate belongs to IN.mat"),
        ((*LINK, "--scenario", "uav", "--on-bad-drop", "skip"), "--on-bad-drop belongs to IN.mat"),
        ((*LINK, "--scenario", "uav", "--refresh", 2), "--refresh needs IN.mat"),
        (("evaluate", "in.mat", "--seed", 1), "--seed draws the errors of --csi"),
        (("evaluate", "in.mat", "--carrier-ghz", 28), "--carrier-ghz applies together with --plot"),
        (
            ("evaluate", "in.mat", "--layout", "nks", "--schemes", "rzf", "--refine", 1),
            "--refine belongs to scheme nflae",
        ),
        (
            ("evaluate", "in.mat", "--layout", "nks", "--schemes", "rzf", "--model", "tiny", "--model", "nano"),
            "several --model are compared as scheme nflae",
        ),
        ((*EVALUATE, "--schemes", "rzf", "--effort", "fast"), "--effort belongs to scheme nflae"),
        ((*EVALUATE, "--effort", "fast", "--model", "tiny"), "--effort chooses the model: leave out --model"),
        *(
            ((*command, "--objective", "max-min", *option), f"{option[0]} has no effect on the objective max-min")
            for command in (("precode", "in.mat", "--layout", "nks", "-o", "out"), EVALUATE)
            for option in (("--refine", 0), ("--effort", "fast"), ("--model", "auto"))
        ),
        ((*BENCH[:3], "--objective", "max-min", "--refine", "1"), "--refine has no effect on the objective max-min"),
        ((*BENCH, "--weights", "1,1", "--users", 2, "--refine", 1), "--refine belongs to scheme nflae"),
        ((*BENCH, "--refine", "0,2"), "--refine belongs to scheme nflae: add it to --schemes"),
        ((*BENCH, "--model", "nano"), "--model belongs to scheme nflae"),
        *(
            ((*command, *option), f"{option[0]} applies together with --plot")
            for command, option in (
                (("precode", "in.mat", "-o", "out"), ("--style", "house")),
                (EVALUATE, ("--style", "paper")),
                (("track", "in.mat", "-o", "out"), ("--style", "paper")),
                (("track", "in.mat", "-o", "out"), ("--size", "3x2in")),
            )
        ),
        *(
            (
                (*command, "-o", "out.npz", "--mat-version", "7"),
                "--mat-version is for .mat files, and out.npz is a .npz",
            )
            for command in (
                ("precode", "in.mat"),
                ("track", "in.mat"),
                ("simulate",),
                ("predict", "in.mat"),
                ("estimate", "in.mat"),
                ("feedback", "in.mat"),
                ("embed", "in.mat", "--model", "x"),
            )
        ),
        (
            (*EVALUATE, "--near-field", "upa:4x4", "--schemes", "rzf", "--model", "tiny"),
            "--model belongs to scheme nflae, and to labels that nothing states",
        ),
        ((*CDF, "--carrier-ghz", 28), "--carrier-ghz is for the plot of users: leave it out with --plot-kind cdf"),
        (
            ("predict", "in.mat", "-o", "out", "--slot-ms", 1, "--times", "t"),
            "--slot-ms and --times exclude each other",
        ),
        (("predict", "in.mat", "-o", "out", "--method", "ar", "--model", "x"), "--model is of methods auto and nflae"),
        (
            ("feedback", "in.mat", "-o", "out", "--bits", 64, "--codec", "polar", "--predictor", "ar"),
            "--predictor is for",
        ),
        ((*LINK, "--scenario", "uav", "--speed", 3), "--speed ages CSI: add --csi aged:SLOTS"),
        (("train", "--preset", "tiny", "-o", "out", "--on-bad-drop", "skip"), "--on-bad-drop applies together with"),
        (
            ("train", "--preset", "tiny", "-o", "out", "--max-inflate", 9),
            "--max-inflate applies together with --channels",
        ),
        ((*STREAM, "--server-key", "k.key"), "--server-key is for a computation on a --server"),
        ((*STREAM, "--scaled"), "--scaled needs --precoders"),
        (
            (*STREAM, "--scheme", "rzf", "--refine", 1),
            "--refine applies to --scheme nflae only; leave it out with rzf.",
        ),
        ((*STREAM, "--scheme", "rzf", "--model", "tiny"), "--model applies to --scheme nflae only"),
        (("models", "tiny", "--batches", 2), "--batches applies together with --compare"),
        ((*TRAINED, "--split", "site"), "--split belongs to methods that are fitted here: leave it out with --model"),
        ((*TRAINED, "--inputs", "power"), "--inputs belongs to methods that are fitted here"),
        ((*TRAINED, "--stages", "task:1"), "--stages belongs to methods that are fitted here"),
        ((*TRAINED, "--seed", 0), "--seed belongs to methods that are fitted here"),
    ],
)
def test_refused_by_name(
    nflae: Run,
    write_mat: WriteMat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mat(random_channels(drops=2), noise_power=0.1)
    done = nflae(*arguments)
    assert done.exit_code == 2, done.output
    assert f"Error: {told}" in done.stderr
    assert not Path("out").exists()
