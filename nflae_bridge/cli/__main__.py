"""Run ``python -m nflae_bridge.cli`` where the console script is not on the path."""

from nflae_bridge.cli.console import main

main()
