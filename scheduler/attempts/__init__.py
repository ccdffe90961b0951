"""Scheduling attempts: of one pod, of a gang, of a pipeline."""
