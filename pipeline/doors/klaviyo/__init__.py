"""Klaviyo's door: custom metrics, events, metric aggregates."""
