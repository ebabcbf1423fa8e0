"""Passes, one file each: from an artifact to the next."""
