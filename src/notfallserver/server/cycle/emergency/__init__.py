"""Emergency operation: the stand-in is captured as versions."""
