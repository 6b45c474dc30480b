"""Recovery: bringing the primary back to a machine."""
