"""What a generator costs: MACs as text, latency on this machine, file size."""

from gancompress.cost.latency import Latency, measure_latency
from gancompress.cost.units import format_count, parse_count

__all__ = ["Latency", "format_count", "measure_latency", "parse_count"]
