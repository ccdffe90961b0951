"""Byte streams between clusters, over the connections that their agents open to the layer: `kubectl
logs`, `exec`, `attach` and `port-forward` of pods that run elsewhere."""
