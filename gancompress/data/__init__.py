"""Images, data sets and batches."""

from gancompress.data.batches import Batch, BatchStream, mix
from gancompress.data.datasets import ImageSet, Split, load_split, spread, with_kinds
from gancompress.data.image_kinds import (
    IMAGE_KINDS,
    RGB,
    ImageKind,
    image_kind,
    kind_of_channels,
)
from gancompress.data.images import (
    list_images,
    read_image,
    refuse_constant,
    save_image,
    to_float,
    to_image,
    to_rgb,
    to_tensor,
    to_uint8,
)
from gancompress.data.kinds import DATA_KINDS, DataKind, data_kind
from gancompress.data.splits import Splits, make_splits
from gancompress.data.translation import Generator, translate_batches

__all__ = [
    "DATA_KINDS",
    "IMAGE_KINDS",
    "RGB",
    "Batch",
    "BatchStream",
    "DataKind",
    "Generator",
    "ImageKind",
    "ImageSet",
    "Split",
    "Splits",
    "data_kind",
    "image_kind",
    "kind_of_channels",
    "list_images",
    "load_split",
    "make_splits",
    "mix",
    "read_image",
    "refuse_constant",
    "save_image",
    "spread",
    "to_float",
    "to_image",
    "to_rgb",
    "to_tensor",
    "to_uint8",
    "translate_batches",
    "with_kinds",
]
