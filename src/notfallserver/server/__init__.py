"""The emergency server: pool, catalogue, machines, life cycle, API and page (Python >= 3.11)."""
