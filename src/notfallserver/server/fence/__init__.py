"""Switching an original off from afar, before its stand-in starts."""
