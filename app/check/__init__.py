"""Checks whether the service can run with its settings, and names the remedy for each problem."""
