"""Stands before native/ on the path of a worker that is to fold by Python alone."""

PROTOCOL = None
