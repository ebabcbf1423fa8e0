"""A run: what is planned, built and measured, and the record that every case ends as."""
