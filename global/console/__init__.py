"""The web console: what the clusters look like, from Prometheus or from the schedulers alone."""
