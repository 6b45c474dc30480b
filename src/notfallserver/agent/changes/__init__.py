"""Knowing which blocks were written since the last version, without reading everything."""
