"""Build the trunk: GPT-2's blocks as built here, or a language model of `transformers`, over users instead of words."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.trunks.trunk import UserTrunk

# Parts of a frozen backbone that stay trainable: layer norms and position embeddings, by transformers' names.
_ADDITION = ("ln_1", "ln_2", "ln_f", "wpe", "layernorm", "norm.weight")


class NoBackbone(nn.Module):
    """Stand in for a trunk: the embedding goes straight to the heads.

    Parameters
    ----------
    config
        The backbone's configuration.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads

    def forward(self, tokens: Tensor, attention_bias: Tensor | None) -> Tensor:
        """Return the tokens unchanged.

        Parameters
        ----------
        tokens, attention_bias
            As in `Backbone.forward`.

        Returns
        -------
        Tensor
            The tokens.
        """
        return tokens


class OpenBackbone(nn.Module):
    """Run GPT-2's blocks as built here, with attention between all users; see `nflae_bridge.network.trunks.trunk`.

    Parameters
    ----------
    config
        The backbone's configuration.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.model = UserTrunk(config.width, config.layers, config.heads, config.positions)

    def forward(self, tokens: Tensor, attention_bias: Tensor | None) -> Tensor:
        """Run the trunk over users in any order.

        Parameters
        ----------
        tokens, attention_bias
            As in `Backbone.forward`.

        Returns
        -------
        Tensor
            As in `Backbone.forward`.
        """
        if attention_bias is None:
            attention_bias = tokens.new_zeros(tokens.shape[0], self.heads, tokens.shape[1], tokens.shape[1])
        result: Tensor = self.model(tokens, attention_bias)
        return result


class Backbone(nn.Module):
    """Run GPT-2, Llama or Qwen of `transformers` as a map from (drops, users, width) to the same shape.

    Parameters
    ----------
    config
        The backbone's configuration.
    offline
        Load pretrained weights from local files alone, without contact to the hub.

    Attributes
    ----------
    precision
        Type of the matrix products; None: that of the weights.

    Raises
    ------
    NflaeError
        If the weights cannot be loaded, or the family is unknown.
    """

    def __init__(self, config: BackboneConfig, offline: bool = False) -> None:
        super().__init__()
        self.config = config
        model: Any = _load(config, offline) if config.source else _build(config)
        model.config.use_cache = False
        _compute_gelu_at_once(model)
        self.width = int(model.config.hidden_size)
        self.heads = int(model.config.num_attention_heads)
        self.positions = min(config.positions, int(model.config.max_position_embeddings))
        self.model = model
        self.precision: torch.dtype | None = None
        if config.frozen:
            for name, parameter in model.named_parameters():
                parameter.requires_grad = any(mark in name for mark in _ADDITION)

    def forward(self, tokens: Tensor, attention_bias: Tensor | None) -> Tensor:
        """Run the trunk over users in canonical order.

        Parameters
        ----------
        tokens
            float32 (drops, users, width).
        attention_bias
            (drops, heads, users, users), used if the config's attention is ``coherence``; None: no bias.

        Returns
        -------
        Tensor
            float32 (drops, users, width).
        """
        users = tokens.shape[1]
        order = torch.arange(users, device=tokens.device).clamp(max=self.positions - 1)
        inputs = tokens.to(self.model.dtype)
        if self.config.attention == "causal":  # without a mask, `transformers` reads the positions back to the host
            mask = torch.ones(1, 1, users, users, dtype=torch.bool, device=tokens.device).tril()
        else:
            bias = inputs.new_zeros(inputs.shape[0], 1, users, users) if attention_bias is None else attention_bias
            order, mask = torch.zeros_like(order), bias.to(inputs.dtype)
        with self._products(tokens.device):
            output = self.model(inputs_embeds=inputs, position_ids=order[None], attention_mask=mask)
        result: Tensor = output.last_hidden_state
        return result.to(tokens.dtype)

    def _products(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which matrix products are of `precision`, without a cache, which no graph may hold."""
        if self.precision is None:
            return nullcontext()
        return torch.autocast(device.type, self.precision, cache_enabled=False)


def backbone_of(config: BackboneConfig, offline: bool = False) -> NoBackbone | OpenBackbone | Backbone:
    """Build the trunk of a configuration.

    Parameters
    ----------
    config
        The backbone's configuration.
    offline
        As in `Backbone`.

    Returns
    -------
    NoBackbone, OpenBackbone or Backbone

    Raises
    ------
    NflaeError
        If its weights cannot be loaded, or its family is unknown.
    """
    if config.source is None and config.family == "none":
        return NoBackbone(config)
    if config.source is None and config.family == "gpt2" and config.attention == "coherence" and not config.frozen:
        return OpenBackbone(config)
    return Backbone(config, offline)


def _compute_gelu_at_once(model: nn.Module) -> None:
    """Compute GPT-2's GELU by PyTorch's own function; `transformers` composes it of eight."""
    from transformers.activations import GELUTanh, NewGELUActivation

    for module in list(model.modules()):
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = GELUTanh()


def _build(config: BackboneConfig) -> nn.Module:
    import transformers

    common: dict[str, Any] = {"vocab_size": 1, "use_cache": False, "attn_implementation": "sdpa"}
    if config.family == "gpt2":
        built: nn.Module = transformers.GPT2Model(
            transformers.GPT2Config(
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                n_positions=config.positions,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
                **common,
            )
        )
        return built
    family = {
        "llama": (transformers.LlamaConfig, transformers.LlamaModel),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2Model),
    }
    if config.family not in family:
        raise NflaeError(f"unknown backbone family {config.family!r}: there are gpt2, llama, qwen2 and none")
    settings, model = family[config.family]
    return model(  # type: ignore[no-any-return]
        settings(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            intermediate_size=4 * config.width,
            max_position_embeddings=config.positions,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            **common,
        )
    )


def _load(config: BackboneConfig, offline: bool) -> nn.Module:
    """Load pretrained weights from a local folder or the hub; raise NflaeError, naming it, where that fails."""
    import transformers

    source = str(config.source)
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # the error below replaces its six lines, one per attempt
    transformers.utils.logging.disable_progress_bar()
    try:
        loaded: nn.Module = transformers.AutoModel.from_pretrained(
            source,
            local_files_only=offline or Path(source).is_dir(),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NflaeError(
            f"backbone {source!r} cannot be loaded ({reason}); give a folder that holds its config.json and "
            f"model.safetensors, or {'type: hf download ' + source if offline else 'connect to the hub'}"
        ) from error
    finally:
        hub.setLevel(level)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(loaded.config, name):
            setattr(loaded.config, name, 0.0)
    for module in loaded.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return loaded
