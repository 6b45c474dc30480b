"""A planned handover of a living primary to its stand-in: the decisions (pure)."""
