"""The tests: unit, property, conformance, integration, fault."""
