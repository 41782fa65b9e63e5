"""What are the choices of a run? One schema, and a TOML file for each recipe."""
