"""Encode samples of several inputs, such as beam powers, positions and pictures, and fuse those that are present."""
