"""Versions carried away to other places with restic, and brought back: the format, the places, the
engine. What is done when is the cycle's (``cycle/offloads.py``)."""
