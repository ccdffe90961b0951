"""Pending pods: the scheduling queue and nominated pods."""
