"""The definition log: `metrics.control`, from its first record to its end, then tailed."""
