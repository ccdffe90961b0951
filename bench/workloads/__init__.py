"""Workloads of `bench.decisions` as YAML: what a cluster has, and the pods that come."""
