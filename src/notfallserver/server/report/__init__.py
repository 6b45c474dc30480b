"""The monthly report: what was protected, how well, and what was proved of it."""
