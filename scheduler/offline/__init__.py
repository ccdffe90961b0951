"""Answers without binding anything: simulate, explain, rebalance."""
