"""How a number is decided. Pure: no I/O, no clock, no log, no randomness, no await."""
