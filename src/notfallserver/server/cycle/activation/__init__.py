"""Activation: from a prepared image to a running stand-in."""
