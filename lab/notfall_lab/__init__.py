"""Real machines, networks and disks for tests and the demo, without touching the real ones."""
