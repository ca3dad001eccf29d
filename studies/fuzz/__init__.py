"""Fuzzing of every reader of files that may come from others: `make fuzz`."""
