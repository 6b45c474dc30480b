"""The ransomware alarm: each new version is measured, judged, and told of."""
