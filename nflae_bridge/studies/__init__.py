"""Run studies: schemes compared on channels, links, benchmarks, published results; their journals and clusters."""
