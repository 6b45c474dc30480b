"""Holding all filesystems still for a moment, and never longer than a deadline."""
