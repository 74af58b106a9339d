"""gancompress: make conditional GANs small enough to use."""

from typing import TYPE_CHECKING

from gancompress.elastic import Subnet, Supernet

if TYPE_CHECKING:
    from gancompress.inference import LoadedGenerator, load_generator
else:

    def __getattr__(name: str) -> object:
        """Names that bring runtimes and codecs with them are imported when they are asked for."""
        if name in ("LoadedGenerator", "load_generator"):
            from gancompress import inference

            return getattr(inference, name)
        raise AttributeError(f"module 'gancompress' has no attribute '{name}'")


__version__ = "0.1.0"
__all__ = ["LoadedGenerator", "Subnet", "Supernet", "__version__", "load_generator"]
