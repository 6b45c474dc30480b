"""How long versions stay: the rules, what they come to (both pure), and carrying that out."""
