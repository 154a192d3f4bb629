"""Programs that a client's user would write: each logs events through one vendor's client.

Each takes a JSON object as its argument, and prints what its client says of itself.
"""
