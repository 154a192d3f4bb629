"""What the service says of itself: the names of its metrics, and the port that answers."""
