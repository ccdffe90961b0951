"""What is near: round-trip times between nodes."""
