"""YAML -> Suite -> Cases: reading a suite (`load`), its fields (`form`), multiplying it out (`matrix`)."""
