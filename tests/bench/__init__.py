"""What `make bench` measures: ratios within one run, by interleaved rounds, with load and sandbox in other
processes.
"""
