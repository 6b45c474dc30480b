"""What replication costs, measured against other programs doing the same job on the same disk."""
