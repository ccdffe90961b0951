"""What fits and how well: one module a plugin, functions of (pod, snapshot) alone."""
