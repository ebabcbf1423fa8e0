"""results/: how records are written and read, and the tables that are derived from them."""
