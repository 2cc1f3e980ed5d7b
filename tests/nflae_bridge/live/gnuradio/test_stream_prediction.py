"""Streams that precode for later items: what is predicted from what, gaps, restarts, faults, and how it is tagged."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from nflae_bridge.api.precode import precode
from nflae_bridge.api.predict import PredictedChannels, predict
from nflae_bridge.live.errors import BadChannels, BadRequest, NoAnswer
from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor, LocalPredict
from nflae_bridge.live.gnuradio.computation.remote import Fallback, RemotePredict
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.pmt import Pair, decode, encode
from nflae_bridge.live.gnuradio.tags import encode_header
from tests.channel_files import Run
from tests.nflae_bridge.live.gnuradio.relays import ANTENNAS, USERS, RunningRelay, patient
from tests.nflae_bridge.live.gnuradio.test_relay import tagged
from tests.nflae_bridge.live.moving_users import moving_users

Channels = npt.NDArray[np.complex64]
ITEMS = moving_users(20, USERS, ANTENNAS)
LENGTH, AHEAD = 8, 2


class Recorded:
    """A computation that notes the histories it gets, and gives them back shifted."""

    def __init__(self) -> None:
        self.histories: list[Channels] = []
        self.fault: Exception | None = None

    def __call__(self, history: Channels, *, ahead: int) -> PredictedChannels:
        self.histories.append(history)
        if self.fault is not None:
            raise self.fault
        channels = np.stack([10 * step + np.nan_to_num(history[-1]) for step in range(1, ahead + 1)])
        return PredictedChannels(channels, np.full((ahead, USERS), -7.0), ("ar", "hold", "ar"))


def made() -> tuple[ItemPredictor, Recorded, Counts, list[str]]:
    compute, counts, warnings = Recorded(), Counts(), list[str]()
    found = ItemPredictor(compute, AHEAD, LENGTH, counts, lambda event, text: warnings.append(f"{event}: {text}"))
    return found, compute, counts, warnings


def feed(predictor: ItemPredictor, numbers: range | list[int], run: int = 1) -> list[Any]:
    return [predictor(run, number, ITEMS[number]) for number in numbers]


def test_the_last_item_is_held_until_the_history_suffices_and_that_is_said_once() -> None:
    predictor, compute, counts, warnings = made()
    found = feed(predictor, range(5))
    assert [each.method for each in found] == ["hold"] * 3 + ["ar,hold,ar"] * 2
    assert (found[2].channels == ITEMS[2]).all()
    assert np.isnan(found[2].csi_error_db).all()
    assert (found[4].channels == ITEMS[4] + 20).all()  # two items ahead, not one
    assert (found[4].csi_error_db == -7).all()
    assert (counts.held, counts.filled) == (3, 0)
    assert warnings == ["warm_up: the last item is held until the history has 4 items"]
    assert (compute.histories[-1] == ITEMS[:5]).all()
    feed(predictor, range(5, 20))
    assert (compute.histories[-1] == ITEMS[20 - LENGTH :]).all()


def test_gaps_are_gaps_by_number_and_unusable_items_are_filled() -> None:
    predictor, compute, counts, _ = made()
    feed(predictor, [0, 1, 2, 3, 6])
    assert predictor(1, 7, None) is not None
    expected = ITEMS[:8].copy()
    expected[[4, 5, 7]] = np.nan
    assert np.array_equal(compute.histories[-1], expected, equal_nan=True)
    assert counts.filled == 1


@pytest.mark.parametrize(
    ("run", "number", "size"),
    [(2, 6, ANTENNAS), (1, 5, ANTENNAS), (1, 0, ANTENNAS), (1, 5 + LENGTH + 1, ANTENNAS), (1, 6, ANTENNAS - 1)],
    ids=["next run", "same number", "numbers from 0", "all of the history missing", "another size"],
)
def test_restarts_begin_a_history(run: int, number: int, size: int) -> None:
    predictor, compute, counts, _ = made()
    feed(predictor, range(6))
    before = counts.held
    for step in range(4):
        found = predictor(run, number + step, ITEMS[step, :, :size])
        assert found is not None
        assert (found.method == "hold") == (step < 3)
    assert counts.held == before + 3
    assert (compute.histories[-1] == ITEMS[:4, :, :size]).all()


def test_the_longest_gap_that_a_history_survives() -> None:
    predictor, compute, *_ = made()
    feed(predictor, range(6))
    predictor(1, 5 + LENGTH, ITEMS[13])
    assert np.isnan(compute.histories[-1][:-1]).all()


def test_what_is_no_sequence_begins_a_history_and_is_said_once() -> None:
    predictor, compute, counts, warnings = made()
    feed(predictor, range(5))
    compute.fault = BadChannels("history: snapshot 5, user 2: users change places")
    found = feed(predictor, range(5, 15))
    assert [each.method for each in found] == ["hold"] * 10
    assert (found[-1].channels == ITEMS[14]).all()
    assert [len(history) for history in compute.histories[2:]] == [6, 4, 4, 4]
    assert counts.histories == 4
    assert [text for text in warnings if text.startswith("history")] == [
        "history: item 5: the history begins anew: snapshot 5, user 2: users change places"
    ]
    compute.fault = None
    feed(predictor, range(15, 19))
    compute.fault = BadChannels("again")
    feed(predictor, [19])
    assert warnings[-1] == "history: item 19: the history begins anew: again"


def test_nothing_is_predicted_without_an_item() -> None:
    predictor, compute, *_ = made()
    assert predictor(1, 0, None) is None
    feed(predictor, range(1, 6))
    compute.fault = BadChannels("too many gaps")
    assert predictor(1, 6, None) is None
    assert predictor(1, 7, ITEMS[7]) is not None


def expected_channels(items: Channels, gap: int | None = None) -> Channels:
    """What each item is precoded for, of a stream without number ``gap``."""
    known = items.copy()
    if gap is not None:
        known[gap] = np.nan
    rows = []
    for last in range(len(items)):
        history = known[max(0, last - LENGTH + 1) : last + 1]
        enough = len(history) >= 2 * AHEAD
        rows.append(predict(history, ahead=AHEAD, geometry="line").channels[-1] if enough else items[last])
    return np.stack([row for index, row in enumerate(rows) if index != gap])


@pytest.mark.parametrize("direct", [False, True])
def test_precoders_are_those_for_the_predicted_channels_and_are_tagged(direct: bool) -> None:
    options = patient(direct=direct, max_batch=7)
    sent = ITEMS.conj() if direct else ITEMS
    local = LocalPredict(geometry="line")
    with RunningRelay("pull,tags", {"precoders": "push,tags"}, options, predict=local) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode_header(0, []) + sent[:12].tobytes())
        source.send(encode_header(13, []) + sent[13:].tobytes())
        rows, tags = tagged(sink, 19)
    channels = expected_channels(ITEMS, gap=12)
    np.testing.assert_allclose(rows, precode(channels, scheme="rzf").precoder.reshape(19, -1), atol=1e-5)
    assert [tags[place]["nflae_method"] for place in range(3)] == ["hold"] * 3
    assert all(tags[place]["nflae_method"] != "hold" for place in range(3, 19))
    assert "nflae_rate" not in tags[5]
    assert (relay.counts.sent, relay.counts.held, relay.counts.gaps, relay.counts.bad) == (19, 3, 1, 0)
    assert relay.error is None


def test_an_unusable_item_is_filled_and_its_rates_are_those_predicted() -> None:
    sent = ITEMS.copy()
    sent[11, 1, 3] = np.nan
    with RunningRelay(
        "pull,pdu", {"precoders": "push,pdu"}, patient(with_results=True), predict=LocalPredict()
    ) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        for item in sent[4:12]:
            source.send(encode(Pair({}, item.reshape(-1))))
        answers = [decode(sink.recv()) for _ in range(8)]
    known = ITEMS[4:12].copy()
    known[7] = np.nan
    found = predict(known, ahead=AHEAD)
    result = precode(found.channels[-1:], scheme="rzf")
    np.testing.assert_allclose(answers[7].cdr, result.precoder.reshape(-1), atol=1e-5)
    np.testing.assert_allclose(answers[7].car["nflae_rate"], result.rate[0], rtol=1e-4)
    assert answers[7].car["nflae_method"] in (found.method[0], ",".join(found.method))
    assert "nflae_error" not in answers[7].car
    assert (relay.counts.filled, relay.counts.bad) == (1, 0)
    assert any(event == "filled" and "item 7" in text for event, text in relay.warnings)


def test_the_first_items_may_be_unusable() -> None:
    sent = np.concatenate([np.full_like(ITEMS[:1], np.nan), ITEMS])
    with RunningRelay("pull", {"precoders": "push"}, predict=LocalPredict()) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(sent[:3].tobytes())
        rows = np.frombuffer(sink.recv(), np.complex64).reshape(3, -1)
    assert not rows[0].any()
    assert rows[1:].any(1).all()
    assert (relay.counts.bad, relay.counts.held) == (1, 2)


def test_with_error_an_unusable_item_ends_the_program() -> None:
    sent = ITEMS.copy()
    sent[6] = 0
    with RunningRelay("pull", {"precoders": "push"}, patient(on_bad_drop="error"), predict=LocalPredict()) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(sent.tobytes())
        assert len(np.frombuffer(sink.recv(), np.complex64)) == sent[:6].size
        relay.thread.join(60)
    assert "item 6: user 1 is zero" in str(relay.error)


# On a server


class Watch:
    present = True


def test_options_and_time_limit_go_to_the_server() -> None:
    given: dict[str, Any] = {}

    def server(history: Channels, **options: Any) -> PredictedChannels:
        given.update(options)
        return predict(history, ahead=options["ahead"])

    remote = RemotePredict(server, Watch(), 7.0, "stop", method="ar", geometry="line")  # type: ignore[arg-type]
    found = remote(ITEMS[:8], ahead=2)
    assert found is not None
    assert given == {"ahead": 2, "timeout": 7.0, "method": "ar", "geometry": "line"}


@pytest.mark.parametrize("fallback", ["stop", "hold", "rzf"])
def test_in_the_server_s_absence_the_last_item_is_held_where_there_is_a_fallback(fallback: Fallback) -> None:
    watch, counts = Watch(), Counts()

    def server(history: Channels, **options: Any) -> PredictedChannels:
        raise NoAnswer("away")

    remote = RemotePredict(server, watch, 7.0, fallback)  # type: ignore[arg-type]
    predictor = ItemPredictor(remote, AHEAD, LENGTH, counts, lambda event, text: None)
    if fallback == "stop":
        with pytest.raises(NoAnswer):
            feed(predictor, range(4))
        return
    assert feed(predictor, range(4))[-1].method == "hold"
    watch.present = False
    assert feed(predictor, range(4, 6))[-1].method == "hold"
    assert counts.held == 6


def test_a_refusal_of_the_server_is_no_fault_of_the_history() -> None:
    def server(history: Channels, **options: Any) -> PredictedChannels:
        raise BadRequest("no such method")

    remote = RemotePredict(server, Watch(), 7.0, "hold")  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        feed(ItemPredictor(remote, AHEAD, LENGTH, Counts(), lambda event, text: None), range(4))


# The command


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--history", 20], 2, "--history applies to --ahead only"),
        (["--ahead", 4, "--times", "t"], 2, "No such option '--times'"),
        (["--ahead", 9], 2, "--ahead 9 is beyond half the history of 16: give --history 18 or more"),
        (["--ahead", 2, "--method", "magic"], 1, "no prediction method 'magic'"),
        (["--ahead", 2, "--geometry", "panel:5x5"], 1, "panel:5x5 has 25 antennas, the channels have 16"),
    ],
)
def test_options_that_do_not_fit_are_named(nflae: Run, arguments: list[Any], status: int, message: str) -> None:
    ends = ("--csi", "pull:tcp://127.0.0.1:1", "--precoders", "push:tcp://127.0.0.1:*")
    done = nflae("stream", "--users", 3, "--antennas", 16, *ends, *arguments)
    assert done.exit_code == status
    assert message in done.output
