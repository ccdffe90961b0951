"""The global layer: requests that are placed across clusters, and agents that carry them out."""
