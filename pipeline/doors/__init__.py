"""The HTTP service: a folder for each vendor's door, our own door, and what all share."""
