"""Kafka and Redis for a laptop: what is configured, Docker, or plain processes."""
