"""The native HTTP shapes of the three systems: queries that come, answers that go (FORMATS)."""
