"""What is written to Kafka beside the stream: events of a file, dead letters and their headers."""
