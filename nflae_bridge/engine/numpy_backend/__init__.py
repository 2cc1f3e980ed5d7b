"""Compute drops without constraints on a CPU in NumPy and ONNX Runtime, without PyTorch's overhead per operation.

With a kernel encoder the K x K algebra is in single precision on drops whose sums over antennas are, and SINRs are
computed in double precision when they are read. The candidate solutions of a drop are then stacked and solved together,
since the overhead of a NumPy call exceeds its arithmetic. All other algebra is in double precision.

The mathematics of `simulator.downlink.structure` and `nflae_bridge.engine.near_parallel` is stated here a second time;
`tests/nflae_bridge/engine/test_numpy_backend.py` compares both, and `python benchmarks/engine_stages.py --ratios` the
times.
"""
