"""Pure functions of arrays: intervals, agreement, derivatives, attention maps."""
