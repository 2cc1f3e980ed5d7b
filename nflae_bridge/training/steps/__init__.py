"""Take optimiser steps, as CUDA graphs on a GPU, and keep the state between them."""
