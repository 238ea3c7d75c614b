"""Real-size models with random weights on a CUDA card: our plan against plain diffusers (`python -m benchmarks.gpu`)."""
