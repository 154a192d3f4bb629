"""How to count: the stream processor, its stores, doors and command line."""
