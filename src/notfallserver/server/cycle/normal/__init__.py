"""Normal operation: receiving replications and preparing images."""
