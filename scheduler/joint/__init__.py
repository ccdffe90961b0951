"""Pods that are placed together: gangs and pipelines."""
