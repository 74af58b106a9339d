"""Elastic networks: trace any generator, choose widths, run and extract subnets.

Nothing here knows a particular model.
"""

from gancompress.elastic.calibrate import calibrate, calibrated, ready_subnet
from gancompress.elastic.candidates import (
    Tie,
    elastic_groups,
    make_space,
    nothing_elastic,
    with_depths,
    with_kernels,
    with_resolutions,
)
from gancompress.elastic.costs import CostModel, NetworkCosts
from gancompress.elastic.dimensions import (
    DIMENSIONS,
    FULL,
    Depth,
    Dimension,
    KernelSize,
    Resolution,
    Width,
)
from gancompress.elastic.layers import fit
from gancompress.elastic.parts import Group, Parts
from gancompress.elastic.sorting import channel_importance, sort_channels
from gancompress.elastic.space import Genomes, SearchSpace, Subnet
from gancompress.elastic.structure import Cut, reduced_copy, stride_at
from gancompress.elastic.supernet import Supernet, capture
from gancompress.elastic.trace import trace
from gancompress.elastic.traced import Traced

__all__ = [
    "DIMENSIONS",
    "FULL",
    "CostModel",
    "Cut",
    "Depth",
    "Dimension",
    "Genomes",
    "Group",
    "KernelSize",
    "NetworkCosts",
    "Parts",
    "Resolution",
    "SearchSpace",
    "Subnet",
    "Supernet",
    "Tie",
    "Traced",
    "Width",
    "calibrate",
    "calibrated",
    "capture",
    "channel_importance",
    "elastic_groups",
    "fit",
    "make_space",
    "nothing_elastic",
    "ready_subnet",
    "reduced_copy",
    "sort_channels",
    "stride_at",
    "trace",
    "with_depths",
    "with_kernels",
    "with_resolutions",
]
