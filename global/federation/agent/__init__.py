"""The cluster agent: answers whether requests fit, carries them out, and reports what there is."""
