"""Join networks of several tasks on one trunk: each task keeps its encoder and heads and gains a token of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.trunk import UserTrunk


class TaskTrunk(nn.Module):
    """Run a trunk shared with other tasks, with a task token in front of the tokens.

    Parameters
    ----------
    shared
        The trunk, which is not a submodule: its parameters belong to the network that joins the tasks.
    """

    def __init__(self, shared: UserTrunk) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(shared.wpe.embedding_dim))
        nn.init.normal_(self.token, std=0.02)
        self._shared = [shared]  # in a list, so that it is not registered

    @property
    def shared(self) -> UserTrunk:
        """The trunk."""
        return self._shared[0]

    def own(self) -> None:
        """Make the trunk a submodule, for a network that is used without the others."""
        self.add_module("trunk", self.shared)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Run the trunk.

        Parameters
        ----------
        tokens, bias
            As in `nflae_bridge.network.trunks.trunk.UserTrunk`; the task token has a bias of 0.

        Returns
        -------
        Tensor
            As in `nflae_bridge.network.trunks.trunk.UserTrunk`, without the task token.
        """
        task = self.token.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        result: Tensor = self.shared(torch.cat([task, tokens], 1), pad(bias, (1, 0, 1, 0)))
        return result[:, 1:]


class PatchTrunk(nn.Module):
    """Add a trunk over patches of neighbouring positions to a convolutional network, as one of its layers.

    Parameters
    ----------
    trunk
        The trunk.
    patch
        Positions per token; the last patch is padded with zeros.
    """

    def __init__(self, trunk: TaskTrunk, patch: int) -> None:
        super().__init__()
        self.trunk, self.patch = trunk, patch
        self.scale = nn.Parameter(torch.full((), 0.1))

    def forward(self, values: Tensor) -> Tensor:
        """Apply the trunk.

        Parameters
        ----------
        values
            float32 (series, width, positions) or (series, width, columns, rows).

        Returns
        -------
        Tensor
            float32, of the same shape: each position's share of its patch.
        """
        flat = values.flatten(2)
        positions = flat.shape[-1]
        padded = pad(flat, (0, -positions % self.patch))
        tokens = padded.reshape(*flat.shape[:2], -1, self.patch).mean(-1).transpose(1, 2)
        heads = self.trunk.shared.heads
        bias = tokens.new_zeros(tokens.shape[0], heads, tokens.shape[1], tokens.shape[1])
        mixed: Tensor = self.trunk(tokens.contiguous(), bias).transpose(1, 2).repeat_interleave(self.patch, -1)
        result: Tensor = (self.scale * mixed[..., :positions]).view_as(values)
        return result


class JointNetwork(TaskNetwork):
    """Network for several tasks on one trunk.

    Parameters
    ----------
    parts
        Networks by task, each with at most one `UserTrunk`; these are replaced by the shared one.
    attach
        Functions by task that add the trunk to a network without one.

    Raises
    ------
    ValueError
        If the trunks of the parts differ in size.
    """

    def __init__(
        self,
        parts: Mapping[str, TaskNetwork],
        attach: Mapping[str, Callable[[TaskNetwork, TaskTrunk], None]] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = next(trunk for part in parts.values() for _, trunk in _trunks(part))
        self.parts = nn.ModuleDict()
        for task, part in parts.items():
            self.parts[task] = part
            found = _trunks(part)
            for name, trunk in found:
                if _size(trunk) != _size(self.trunk):
                    raise ValueError(f"the trunk of task {task} is {_size(trunk)}, the shared one {_size(self.trunk)}")
                parent, _, leaf = name.rpartition(".")
                setattr(part.get_submodule(parent), leaf, TaskTrunk(self.trunk))
            if not found:
                (attach or {})[task](part, TaskTrunk(self.trunk))

    def separate(self) -> dict[str, TaskNetwork]:
        """Return a copy of each task's network that includes the trunk, by task."""
        networks: dict[str, TaskNetwork] = {}
        for task, part in self.parts.items():
            assert isinstance(part, TaskNetwork)
            networks[task] = copy.deepcopy(part)
            for module in list(networks[task].modules()):
                if isinstance(module, TaskTrunk):
                    module.own()
        return networks


def _trunks(network: nn.Module) -> list[tuple[str, UserTrunk]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, UserTrunk)]


def _size(trunk: UserTrunk) -> str:
    return f"{trunk.wpe.embedding_dim} wide with {len(trunk.h)} layers of {trunk.heads} heads"
