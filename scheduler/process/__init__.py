"""A scheduler process: signals, leader election, HTTP."""
