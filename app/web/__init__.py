"""The doors: HTTP in, problems out. No decision is made here."""
