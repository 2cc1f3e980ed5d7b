"""Declare the tasks of the networks, one file per task: network, data, loss, measures, presets and guard."""
