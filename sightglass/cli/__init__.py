"""The `sightglass` command."""
