"""The page where one draws and sees: bundles of exported models, and a server for them."""

from gancompress.demo.bundle import BundleOptions, kept_bundle, make_bundle
from gancompress.demo.folder import publish
from gancompress.demo.manifest import Manifest, read_manifest
from gancompress.demo.server import DemoServer, site
from gancompress.demo.sources import Source, find_source

__all__ = [
    "BundleOptions",
    "DemoServer",
    "Manifest",
    "Source",
    "find_source",
    "kept_bundle",
    "make_bundle",
    "publish",
    "read_manifest",
    "site",
]
