"""gsch and kube-scheduler on the same cluster, pod by pod: the same verdict in the same words."""
