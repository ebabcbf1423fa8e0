"""Measuring one case in a worker, a group side by side, and when it is enough."""
