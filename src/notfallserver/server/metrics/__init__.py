"""Figures for a monitoring such as Prometheus."""
