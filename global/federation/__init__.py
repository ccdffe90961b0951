"""The global layer: requests that are placed across clusters, and the agents that carry them out."""
