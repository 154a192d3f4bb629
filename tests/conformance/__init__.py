"""Conformance: the rules as cases, and the house's own promises about itself."""
