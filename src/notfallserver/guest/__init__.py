"""Offline inspection and adaptation of an image: inspect -> plan (pure) -> apply.

Runs inside the rescue system only, standard library, no network, so a hostile image never meets
the server's kernel.
"""
