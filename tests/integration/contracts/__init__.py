"""Tests of this suite."""
