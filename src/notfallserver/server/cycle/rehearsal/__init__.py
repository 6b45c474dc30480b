"""A rehearsal: a clone of the prepared image starts where nobody can notice it."""
