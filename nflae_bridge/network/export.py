"""Export."""
from __future__ import annotations
import torch
from torch import Tensor, nn
from nflae_bridge.network.encoders.gram import Constraints, FeatureInputs
from nflae_bridge.network.model import power_fractions_of
INPUTS=("gains","coherence","inverse_diagonal","inverse_power","effective_gains","rate")
class PowerNetwork(nn.Module):
    def __init__(self, network):
        super().__init__(); self.network=network
    def forward(self, *values: Tensor):
        q=FeatureInputs(*values)
        far=torch.zeros_like(q.gains).bool()
        one=torch.ones_like(q.gains[:,0])
        tokens,bias=self.network.encoder.embed(q,Constraints(far,one,torch.zeros_like(one)))
        logits=self.network.logits(tokens,bias)
        return tuple(power_fractions_of(logits[name]).double() for name in ("uplink","power"))
