"""The same job on other engines, each in an environment of its own: see benchmarks/bench.py."""
