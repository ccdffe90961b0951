"""Talking to an API server: client, access, list and watch, writes, events, leases."""
