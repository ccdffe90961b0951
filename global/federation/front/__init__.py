"""The layer's HTTP interface: requests, clusters and policies, and GS's routes beside them."""
