"""Native text ↔ neutral model, one module per system, without loss."""
