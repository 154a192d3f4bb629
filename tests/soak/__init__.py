"""Chaos for hours: `make soak MINUTES=n SEED=s`, or `RUNS=n`."""
