"""Exporters, one file each: from a module to the first artifact of a path."""
