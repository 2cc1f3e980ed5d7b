"""Messages of the commands for CSI: doubtful predictions, and tasks that do not exist."""

from __future__ import annotations

import warnings

import numpy as np

from tests.channel_files import Run, WriteMat, random_channels


def test_a_prediction_worse_than_none_is_doubted(nflae: Run, write_mat: WriteMat) -> None:
    path = write_mat(random_channels(16, 2, 8))
    done = nflae("predict", path, "-o", path.with_name("next.mat"), "--method", "hold", "--force")
    assert done.exit_code == 0
    assert "the estimated error exceeds the channel from 1 ahead on" in " ".join(done.output.split())


def test_times_of_a_file_are_read_without_a_warning(nflae: Run, write_mat: WriteMat) -> None:
    waves = np.exp(2j * np.pi * (0.03 * np.arange(16)[:, None, None] + np.outer([0.1, 0.3], np.arange(8))))
    path = write_mat(waves, t=1e-3 * np.arange(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = nflae("predict", path, "-o", path.with_name("next.mat"), "--method", "hold", "--times", "t")
    assert done.exit_code == 0, done.output
    assert "exceeds the channel" not in done.output


def test_a_task_that_does_not_exist_is_refused_with_the_tasks_there_are(nflae: Run) -> None:
    done = nflae("models", "--task", "x")
    assert done.exit_code == 1
    assert "unknown task 'x': there are estimate, feedback, forecast, mask, multi, precode, predict" in done.output


def test_a_csi_model_that_does_not_exist_is_refused_before_anything_is_printed(nflae: Run, write_mat: WriteMat) -> None:
    done = nflae("evaluate", write_mat(random_channels(16, 2, 8)), "--csi", "nonsense:3")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "no CSI 'nonsense:3': there are perfect, aged:SLOTS" in done.stderr
