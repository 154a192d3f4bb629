"""Metronome's door: billable metrics, ingest, usage, search."""
