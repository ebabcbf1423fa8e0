"""Forms of report, one file each: `write(runs, folder)`."""
