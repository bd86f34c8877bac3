"""The version of greenroom, read by the build and told to the media server."""

__version__ = "0.1.0"
