"""The asset graph of the platform and the algorithms beneath it (see docs/architecture.md)."""

__version__ = "0.1.0"
