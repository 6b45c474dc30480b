"""A Windows machine made of bytes, for tests: its structures, disks, volumes, snapshots and VSS."""
