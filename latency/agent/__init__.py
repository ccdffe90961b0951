"""The latency agent: probes its peers and answers with what it measured."""
