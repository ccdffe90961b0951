"""The scheduling cycle: plugins of a profile, evaluation of all nodes, diagnosis."""
