"""Preemption: room for a pod that fits nowhere is made by pods of lower priority.

`candidates` finds victims without touching anything, in slices; `executor` has them deleted.
"""
