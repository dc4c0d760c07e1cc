"""The measurements of `make bench`: ratios of interleaved rounds, with load and sandbox in other processes."""
