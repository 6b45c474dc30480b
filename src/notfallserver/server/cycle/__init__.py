"""The life cycle of a primary: one folder per phase, one conductor that moves between them."""
