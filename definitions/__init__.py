"""What to count: metric definitions, their validation and their matching. Pure."""
