"""Benchmarks of the gateway and of its policy: run by hand, results in `benchmarks/results`."""
