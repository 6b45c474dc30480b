"""Single files of a version: opened for a while, looked through, copied out."""
