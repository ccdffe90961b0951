"""Configuration: the file, gschConfig, and what scheduling reads of a pod."""
