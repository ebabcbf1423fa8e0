"""The version of benchbox: read by pyproject.toml, by records' environments and by `benchbox --version`."""

__version__ = "0.1.0"
