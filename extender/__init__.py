"""The scheduler extender: gsch's filters and policies for pods that kube-scheduler places."""
