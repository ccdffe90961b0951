"""Where a latency matrix comes from: a file, the agents, Prometheus."""
