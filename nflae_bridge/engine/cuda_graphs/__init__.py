"""CUDA graphs of whole answers: one per shape of batch, replayed at one launch."""
