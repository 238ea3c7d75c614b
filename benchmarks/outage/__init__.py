"""What a job stream does while its cloud provider is down: `python -m benchmarks.outage`."""
