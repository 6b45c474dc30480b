"""Starting several stand-ins: their order, what fits together, and carrying it out."""
