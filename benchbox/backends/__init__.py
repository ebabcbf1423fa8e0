"""Runtimes, one file each."""
