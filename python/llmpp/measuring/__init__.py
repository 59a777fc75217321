"""Latencies measured on this machine: of which architectures, how, and beside what was predicted of them."""
