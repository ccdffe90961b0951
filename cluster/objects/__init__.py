"""Kubernetes objects as gsch reads them: structs, quantities, requests, label selectors."""
