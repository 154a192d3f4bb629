"""Statsig's door: console metrics, values, log_event."""
