"""What a generator costs: MACs as text, memory of its activations, latency on this machine."""

from gancompress.cost.latency import (
    Comparison,
    Latency,
    Timings,
    measure_latency,
    time_calls,
)
from gancompress.cost.memory import peak_activation_bytes
from gancompress.cost.units import format_count, parse_count

__all__ = [
    "Comparison",
    "Latency",
    "Timings",
    "format_count",
    "measure_latency",
    "parse_count",
    "peak_activation_bytes",
    "time_calls",
]
