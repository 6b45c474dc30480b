"""Image files of other programs: what they are, what belongs to them, and reading them enclosed."""
