"""Precode channel files: blocks of drops read ahead, checked, precoded and written to a result file."""
