"""Real control planes on one machine: for the demo, the tests and the benchmarks."""
