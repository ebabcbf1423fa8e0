"""Forms of report, one file each."""
