"""nflae-bridge: near-field multi-user precoding by a GPT-2-backbone network, for the tools engineers use."""

__version__ = "0.1.0"
