"""Forwarded pods: a pod of one cluster runs in another, where its proxy mirrors it."""
