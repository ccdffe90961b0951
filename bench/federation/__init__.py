"""The global layer over clusters with fake nodes: its rate, its faults, its ranking."""
