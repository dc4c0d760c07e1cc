"""Could the service run with its settings? What is wrong, in plain words, and what to do about it."""
