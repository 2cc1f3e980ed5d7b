"""Kinds of CSI models, one per file; `simulator.csi.registry` finds them."""
