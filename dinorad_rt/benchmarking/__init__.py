"""Latency, throughput, memory and energy of engines, beside the machine's own ceiling."""
