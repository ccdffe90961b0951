"""Decides and binds: configuration, queue, scheduling cycle, binding cycle."""
