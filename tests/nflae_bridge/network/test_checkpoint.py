"""Checkpoints: there and back unchanged; anything damaged is named; nothing is ever executed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.network.card import CARD
from nflae_bridge.network.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import load_model, model_folder, shipped_models

Make = Callable[..., PrecodingNetwork]


@pytest.fixture
def saved(make_network: Make, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", make_network(), {"preset": "test", "seed": 5})
    return tmp_path / "model"


def refused(folder: Path) -> str:
    with pytest.raises(NflaeError) as error:
        load_checkpoint(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "gram"},
        {"kind": "raw"},
        {"kind": "raw", "family": "none", "head_width": 5},
        {"kind": "cnn", "family": "none", "head_width": 5},
        {"kind": "gram", "head_width": 3},
    ],
    ids=str,
)
def test_checkpoint_comes_back_bit_for_bit(make_network: Make, tmp_path: Path, shape: dict[str, Any]) -> None:
    network = make_network(**shape)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)
    save_checkpoint(tmp_path / "here", network, {"preset": "test", "steps": 3})
    loaded = load_checkpoint(tmp_path / "here")
    assert loaded.name == "here"
    assert (loaded.card["preset"], loaded.card["steps"]) == ("test", 3)
    assert loaded.network.config == network.config
    assert not loaded.network.training
    ours, theirs = network.state_dict(), loaded.network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_card_from_before_heads_had_a_width_is_one_of_linear_heads(saved: Path) -> None:
    card = json.loads((saved / CARD).read_text())
    del card["network"]["head_width"]
    (saved / CARD).write_text(json.dumps(card))
    network = load_checkpoint(saved).network
    assert network.config.head_width == 0
    stored = load_file(saved / WEIGHTS)
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("width", [5, -3, "wide", [1]])
def test_card_of_another_head_width_is_refused(saved: Path, width: object) -> None:
    card = json.loads((saved / CARD).read_text())
    card["network"]["head_width"] = width
    (saved / CARD).write_text(json.dumps(card))
    refused(saved)


def test_frozen_backbone_that_was_built_here_comes_back_too(make_network: Make, tmp_path: Path) -> None:
    """It can't be had anywhere else, unlike a pretrained one."""
    network = make_network(frozen=True)
    save_checkpoint(tmp_path / "model", network, {})
    torch.manual_seed(99)
    loaded = load_checkpoint(tmp_path / "model").network
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_checkpoint_is_two_readable_files_and_no_leftovers(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {CARD, WEIGHTS}
    card = json.loads((saved / CARD).read_text())
    assert card["format"] == 1
    assert card["network"]["backbone"]["width"] == 16
    assert len(load_file(saved / WEIGHTS)) > 10


def test_saving_again_replaces_what_was_there(saved: Path, make_network: Make) -> None:
    save_checkpoint(saved, make_network(seed=7), {"preset": "second"})
    assert load_checkpoint(saved).card["preset"] == "second"


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_are_named(saved: Path, keep: int) -> None:
    weights = saved / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    assert str(weights) in refused(saved)


def test_missing_weights_are_named(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    assert str(saved / WEIGHTS) in refused(saved)


def test_pickle_in_the_place_of_weights_is_not_executed(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    for content in (pickle.dumps(Trap()), pickle.dumps({"x": Trap()}, 0)):
        (saved / WEIGHTS).write_bytes(content)
        refused(saved)
    torch.save({"x": Trap()}, saved / WEIGHTS)
    refused(saved)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("card", ["", "{", "[1, 2]", '"text"', "null", "{}", '{"format": 1}', "\x00\x01"])
def test_card_that_is_no_card_is_named(saved: Path, card: str) -> None:
    (saved / CARD).write_text(card)
    assert str(saved / CARD) in refused(saved)


def test_card_that_is_not_text_is_named(saved: Path) -> None:
    (saved / CARD).write_bytes(b"\xff\xfe\x80")
    assert str(saved / CARD) in refused(saved)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("backbone", "width", "64"),
        ("backbone", "width", 17),
        ("backbone", "width", None),
        ("backbone", "heads", 0),
        ("backbone", "layers", -1),
        ("backbone", "layers", 1),
        ("backbone", "unheard_of", 1),
        ("backbone", "width", 32),
        ("backbone", "family", "bert"),
        ("encoder", "kind", "image"),
        ("encoder", "edge_width", -3),
        ("encoder", "edge_width", 9),
    ],
)
def test_card_that_does_not_fit_the_weights_is_refused(saved: Path, section: str, field: str, value: object) -> None:
    card = json.loads((saved / CARD).read_text())
    card["network"][section][field] = value
    (saved / CARD).write_text(json.dumps(card))
    with pytest.raises(NflaeError) as error:
        load_checkpoint(saved)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(saved: Path, make_network: Make, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", make_network(width=32), {})
    (saved / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert CARD in refused(saved)
    tensors = load_file(saved / WEIGHTS)
    save_file(dict(list(tensors.items())[:-1]), saved / WEIGHTS)
    refused(saved)


def test_later_format_is_refused_as_such(saved: Path) -> None:
    card = json.loads((saved / CARD).read_text()) | {"format": 2}
    (saved / CARD).write_text(json.dumps(card))
    assert "format 2" in refused(saved)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert CARD in refused(tmp_path)


def test_model_is_found_by_folder_and_by_shipped_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(str(saved), choose_device("cpu")).card["preset"] == "test"
    monkeypatch.setattr("nflae_bridge.network.shipped.SHIPPED", saved.parent)
    assert [entry.name for entry in shipped_models()] == ["model"]
    assert model_folder("model") == saved
    with pytest.raises(NflaeError, match=r"no model 'nosuch'.*model"):
        model_folder("nosuch")


def test_auto_takes_tiny_on_the_cpu_and_small_on_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tiny", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CARD).write_text("{}")
    monkeypatch.setattr("nflae_bridge.network.shipped.SHIPPED", tmp_path)
    assert model_folder("auto", "cpu").name == "tiny"
    assert model_folder("auto", "cuda").name == "small"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "meta", ""])
def test_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(NflaeError, match=f"'{name}'"):
        choose_device(name)


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("backbone", "width", 1 << 14),
        ("backbone", "layers", 10**9),
        ("backbone", "positions", 10**12),
        ("encoder", "blocks", 10**9),
        ("encoder", "edge_width", 1 << 12),
        ("encoder", "antennas", True),
        ("backbone", "source", 7),
    ],
)
def test_sizes_that_the_weights_do_not_have_build_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch, section: str, field: str, value: object
) -> None:
    card = json.loads((saved / CARD).read_text())
    card["network"][section][field] = value
    (saved / CARD).write_text(json.dumps(card))
    built = PrecodingNetwork.__init__

    def on_paper(self: PrecodingNetwork, *arguments: Any, **options: Any) -> None:
        assert torch.get_default_device().type == "meta"
        built(self, *arguments, **options)

    monkeypatch.setattr(PrecodingNetwork, "__init__", on_paper)
    refused(saved)


def test_raw_encoder_for_antennas_without_weights_builds_nothing(make_network: Make, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make_network("raw"), {})
    card = json.loads((tmp_path / "model" / CARD).read_text())
    card["network"]["encoder"]["antennas"] = 30_000
    (tmp_path / "model" / CARD).write_text(json.dumps(card))
    assert "30000 antennas" in refused(tmp_path / "model")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(saved: Path, number: float) -> None:
    tensors = load_file(saved / WEIGHTS)
    name = sorted(tensors)[3]
    tensors[name].view(-1)[0] = number
    save_file(tensors, saved / WEIGHTS)
    card = json.loads((saved / CARD).read_text())
    del card["weights_sha256"]
    (saved / CARD).write_text(json.dumps(card))
    assert name in refused(saved)


def test_weights_with_another_checksum_are_refused(saved: Path, make_network: Make, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", make_network(seed=3), {})
    (saved / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert "checksum" in refused(saved)


def test_card_without_a_checksum_is_read(saved: Path) -> None:
    card = json.loads((saved / CARD).read_text())
    del card["weights_sha256"]
    (saved / CARD).write_text(json.dumps(card))
    load_checkpoint(saved)


def test_card_nested_without_end_is_named(saved: Path) -> None:
    (saved / CARD).write_text("[" * 200_000)
    assert str(saved / CARD) in refused(saved)


def test_loading_never_contacts_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    seen: dict[str, Any] = {}

    def load(source: str, **options: Any) -> None:
        seen.update(options, source=source)
        raise OSError("not here")

    card = json.loads((saved / CARD).read_text())
    card["network"]["backbone"]["source"] = "nobody/model"
    (saved / CARD).write_text(json.dumps(card))
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", load)
    with pytest.raises(NflaeError, match="nobody/model"):
        load_checkpoint(saved)
    assert seen["source"] == "nobody/model"
    assert seen["local_files_only"] is True
    assert seen["trust_remote_code"] is False


def test_a_model_loads_without_the_compiler_of_pytorch() -> None:
    """torch._dynamo takes as long to import as PyTorch itself; initial values on the meta device import it."""
    script = (
        "import sys, torch\nfrom nflae_bridge.network.shipped import load_model\n"
        "load_model('auto', torch.device('cpu')); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
