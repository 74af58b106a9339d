"""Translate images, folders and videos with any generator."""

from gancompress.inference.batches import translate_images
from gancompress.inference.loading import LoadedGenerator, load_generator
from gancompress.inference.options import TranslateOptions, TranslateResult
from gancompress.inference.translate import translate_path

__all__ = [
    "LoadedGenerator",
    "TranslateOptions",
    "TranslateResult",
    "load_generator",
    "translate_images",
    "translate_path",
]
