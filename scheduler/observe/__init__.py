"""What a scheduler tells: metrics, events, conditions, recent decisions."""
