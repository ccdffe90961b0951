"""The headline experiment: a video pipeline on real nodes, placed in three ways.

`make experiment` runs it; docs/experiment.md has what came out.
"""
