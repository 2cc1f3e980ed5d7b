"""Backbones: built here or loaded from a folder, of each family, frozen as described; refusals in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import load_checkpoint, save_checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import Backbone
from nflae_bridge.tasks.precode import PRECODE
from nflae_bridge.training.loss import LossWeights, precoding_loss
from nflae_bridge.training.presets import recipe
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from tests.simulator.definitions import draw_channels

Save = Callable[[str], Path]
FAMILIES = ("gpt2", "llama", "qwen2")


@pytest.fixture
def pretrained(tmp_path: Path) -> Save:
    """Saves a tiny random language model of a family as the hub would have it, and returns its folder."""

    def save(family: str) -> Path:
        torch.manual_seed(1)
        small = {
            "vocab_size": 11,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        models = {
            "gpt2": lambda: transformers.GPT2Model(
                transformers.GPT2Config(
                    vocab_size=11, n_embd=24, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
                )
            ),
            "llama": lambda: transformers.LlamaModel(transformers.LlamaConfig(**small)),
            "qwen2": lambda: transformers.Qwen2Model(transformers.Qwen2Config(**small)),
        }
        models[family]().save_pretrained(tmp_path / family)
        return tmp_path / family

    return save


def batch(users: int = 5, drops: int = 4) -> UserInputs:
    channels = draw_channels(0, users, 8, drops=drops, spread_db=10)
    one = torch.ones(drops)
    near = torch.arange(drops * users).reshape(drops, users) % 3 == 0
    return UserInputs(channels, normalised_gram(channels, LinkBudget()), 0.7 * one, 0.1 * one, near)


def gradients(network: PrecodingNetwork) -> dict[str, torch.Tensor]:
    """Gradients of the training loss after one backward pass, by parameter."""
    inputs = batch()
    assert inputs.near_field is not None
    network.train()
    parts = precoding_loss(
        network(inputs), inputs.gram, inputs.near_field, inputs.alpha_c, inputs.min_rate, LossWeights()
    )
    parts.total.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def config_for(source: Path, attention: str = "causal", frozen: bool = True, kind: str = "gram") -> NetworkConfig:
    return NetworkConfig(
        EncoderConfig(kind=kind, antennas=8, blocks=1),  # type: ignore[arg-type]
        BackboneConfig(source=str(source), width=16, heads=2, frozen=frozen, attention=attention),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["gram", "raw"])
def test_local_language_model_runs_and_trains_a_step(pretrained: Save, family: str, kind: str) -> None:
    network = PrecodingNetwork(config_for(pretrained(family), kind=kind))
    assert network.backbone.width == 24
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, 1e-3)
    assert all(bool(value.isfinite().all()) for value in gradients(network).values())
    optimiser.step()
    output = network.eval()(batch())
    assert output.power_fractions.shape == (4, 5)
    assert bool(output.power_fractions.isfinite().all())
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert not changed & frozen
    assert "heads.power.weight" in changed


# Written out by hand from the models' descriptions: layer norms and, in GPT-2, the position embeddings.
ADDITION = {
    "gpt2": {"wpe.weight", "ln_f.weight", "ln_f.bias"}
    | {f"h.{n}.{norm}.{part}" for n in (0, 1) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
    "llama": {"norm.weight"}
    | {f"layers.{n}.{norm}.weight" for n in (0, 1) for norm in ("input_layernorm", "post_attention_layernorm")},
}
ADDITION["qwen2"] = ADDITION["llama"]


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_backbone_trains_exactly_its_norms_and_positions(pretrained: Save, family: str) -> None:
    network = PrecodingNetwork(config_for(pretrained(family)))
    torch.nn.init.normal_(network.heads["power"].weight)
    trained = {name for name, p in network.backbone.model.named_parameters() if p.requires_grad}
    assert trained == ADDITION[family]
    prefix = "backbone.model."
    given = {name: grad for name, grad in gradients(network).items() if name.startswith(prefix)}
    assert {name.removeprefix(prefix) for name in given} == ADDITION[family]
    assert all(float(grad.abs().max()) > 0 for grad in given.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_backbone_built_here_trains_whole(family: str) -> None:
    network = PrecodingNetwork(
        NetworkConfig(EncoderConfig(), BackboneConfig(family=family, width=16, layers=1, heads=2))  # type: ignore[arg-type]
    )
    trained, total = network.parameter_counts()
    assert trained == total == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_coherence_attention_treats_users_alike_and_obeys_its_bias(family: str) -> None:
    torch.manual_seed(0)
    config = BackboneConfig(family=family, width=16, layers=2, heads=2)  # type: ignore[arg-type]
    backbone = Backbone(config).eval()
    tokens = torch.randn(2, 6, 16)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    bias = torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        hidden = backbone(tokens, bias)
        moved = backbone(tokens[:, order], bias[:, :, order][..., order])
        torch.testing.assert_close(moved, hidden[:, order], rtol=0, atol=1e-5)
        assert float((backbone(tokens, -bias) - hidden).abs().max()) > 1e-3
        # a user cut off from all the others doesn't notice them
        cut = torch.zeros(2, 2, 6, 6)
        cut[:, :, 0, 1:] = -1e9
        alone = backbone(tokens[:, :1], torch.zeros(2, 2, 1, 1))
        torch.testing.assert_close(backbone(tokens, cut)[:, :1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_causal_attention_sees_earlier_users_and_the_order(family: str) -> None:
    torch.manual_seed(0)
    config = BackboneConfig(family=family, width=16, layers=2, heads=2, attention="causal")  # type: ignore[arg-type]
    backbone = Backbone(config).eval()
    tokens = torch.randn(1, 6, 16)
    changed = tokens.clone()
    changed[:, 3] = torch.randn(16)
    with torch.no_grad():
        first, second = backbone(tokens, None), backbone(changed, None)
    torch.testing.assert_close(second[:, :3], first[:, :3], rtol=0, atol=1e-6)
    assert bool(((second - first)[:, 3:].abs().amax(-1) > 1e-4).all())


@pytest.mark.parametrize("attention", ["causal", "coherence"])
def test_more_users_than_positions_share_the_last(attention: str) -> None:
    backbone = Backbone(BackboneConfig(width=16, layers=1, heads=2, positions=4, attention=attention))  # type: ignore[arg-type]
    assert bool(backbone.eval()(torch.randn(1, 9, 16), None).isfinite().all())


def test_more_users_than_a_loaded_models_positions(pretrained: Save) -> None:
    config = replace(config_for(pretrained("gpt2")).backbone, positions=1024)  # the model has 64
    assert bool(Backbone(config).eval()(torch.randn(1, 70, 24), None).isfinite().all())


def test_loaded_models_have_no_dropout(pretrained: Save) -> None:
    backbone = Backbone(config_for(pretrained("gpt2")).backbone).train()
    tokens = torch.randn(2, 5, 24)
    torch.testing.assert_close(backbone(tokens, None), backbone(tokens, None), rtol=0, atol=0)


def test_gpt2_preset_takes_a_local_folder(pretrained: Save) -> None:
    chosen = recipe("gpt2", backbone=str(pretrained("gpt2")), steps=7, seed=3)
    assert (chosen.steps, chosen.seed) == (7, 3)
    network = PrecodingNetwork(chosen.network)
    assert {n for n, p in network.backbone.model.named_parameters() if p.requires_grad} == ADDITION["gpt2"]
    assert bool(network.eval()(batch()).power_fractions.isfinite().all())


def test_checkpoint_of_a_frozen_backbone_holds_what_was_trained_alone(pretrained: Save, tmp_path: Path) -> None:
    network = PrecodingNetwork(config_for(pretrained("gpt2"))).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    save_checkpoint(tmp_path / "run", network, {})
    loaded = load_checkpoint(tmp_path / "run").network
    torch.testing.assert_close(loaded(batch()).power_fractions, network(batch()).power_fractions, rtol=0, atol=0)
    stored = load_file(tmp_path / "run" / "model.safetensors")
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained <= stored.keys()
    assert not any("attn.c_attn" in name or "mlp" in name for name in stored if name.startswith("backbone"))


@pytest.mark.parametrize("preset", PRECODE.presets)
def test_presets_name_real_shapes(preset: str) -> None:
    network = recipe(preset).network
    assert network.backbone.width % network.backbone.heads == 0
    if preset in ("tiny", "small", "classifier"):
        assert network.encoder.kind == "gram"
        assert network.backbone.source is None
    elif preset == "nano":
        assert (network.encoder.kind, network.backbone.family) == ("kernel", "none")
    elif preset in ("transformer", "cnn"):
        assert (network.backbone.family, network.backbone.source) == ("none", None)
        assert network.encoder.antennas == 256
    else:
        assert network.backbone.source == "gpt2"
        assert network.backbone.frozen


def one_line(error: pytest.ExceptionInfo[NflaeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_unreachable_hub_model_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NflaeError) as error:
        Backbone(BackboneConfig(source="nobody/there-is-no-such-model"))
    assert "nobody/there-is-no-such-model" in one_line(error)


def test_pickled_weights_are_never_loaded(tmp_path: Path, pretrained: Save) -> None:
    folder = pretrained("gpt2")
    weights = transformers.AutoModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(NflaeError) as error:
        Backbone(BackboneConfig(source=str(folder)))
    assert str(folder) in one_line(error)


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "no config", "config no json", "empty folder"])
def test_damaged_backbone_folder_is_named_in_one_line(pretrained: Save, damage: str) -> None:
    folder = pretrained("gpt2")
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "garbage":
        weights.write_bytes(b"\xff" * 4096)
    elif damage == "config no json":
        config.write_text('{"model_type": "gpt2", ')
    if damage in ("no config", "empty folder"):
        config.unlink()
    if damage == "empty folder":
        weights.unlink()
    with pytest.raises(NflaeError) as error:
        Backbone(BackboneConfig(source=str(folder)))
    assert str(folder) in one_line(error)


def test_unknown_family_and_preset_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NflaeError, match=r"'bert'.*gpt2, llama, qwen2 and none"):
        Backbone(BackboneConfig(family="bert"))  # type: ignore[arg-type]
    with pytest.raises(NflaeError, match=r"'huge'.*tiny, small, classifier, gpt2, paper, transformer, cnn"):
        recipe("huge")
    for preset in ("tiny", "cnn"):
        with pytest.raises(NflaeError, match="builds its own backbone"):
            recipe(preset, backbone="gpt2")


def test_random_gpt2_has_the_shape_of_gpt2_small() -> None:
    backbone = recipe("gpt2", backbone="gpt2-random").network.backbone
    assert (backbone.source, backbone.frozen) == (None, False)
    assert (backbone.width, backbone.layers, backbone.heads) == (768, 12, 12)
