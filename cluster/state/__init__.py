"""What a cluster is at the moment, as columns with one row a node."""
