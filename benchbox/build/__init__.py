"""Case.path -> Artifact, model + inputs -> Reference: keys, the cache, and the builder process."""
