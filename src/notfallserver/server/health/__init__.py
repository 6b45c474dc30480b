"""Whether the emergency server itself is fit for the worst day: facts, and a judgement of them."""
