"""Closed periods: the usage of all customers as files, and revisions of it."""
