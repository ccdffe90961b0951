"""What a cluster is and how to talk to it: objects, client, reflector, snapshot, events, leases."""
