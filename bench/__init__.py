"""Benchmarks: programs that run gsch and its peer in turns and print ratios."""
