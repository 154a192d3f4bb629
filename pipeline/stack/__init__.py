"""Kafka and Redis for a laptop: what is configured, Docker, or native processes (DESIGN 10)."""
