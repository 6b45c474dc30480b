"""Versions on media that lie in a cupboard: tapes, files and pipes in the form of tar, and whole
disks that start by themselves."""
