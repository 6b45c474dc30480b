"""Which disks a machine has, what lies on them, and which blocks are in use."""
