"""gancompress: make conditional GANs small enough to use."""

from gancompress.elastic import Subnet, Supernet

__version__ = "0.1.0"
__all__ = ["Subnet", "Supernet", "__version__"]
