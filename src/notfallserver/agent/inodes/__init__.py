"""Inodes as they lie on the disk: what tells whether a file can have changed."""
