"""Experiments on CSI acquisition: prediction, feedback, pretrained encoders, delay and Doppler."""
