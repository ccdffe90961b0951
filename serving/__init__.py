"""What every process and HTTP server here shares: security, logs, supervision."""
