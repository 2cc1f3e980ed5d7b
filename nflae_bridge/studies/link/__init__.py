"""Measure error rates and goodput of schemes over a link: drops, sweep over SNRs, journal and tables."""
