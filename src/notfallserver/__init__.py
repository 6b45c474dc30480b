"""Notfallserver: a second machine that stands by for every protected server."""

VERSION = "0.1.0"
