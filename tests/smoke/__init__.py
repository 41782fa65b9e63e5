"""The images and the compose file, built and run by a real Docker engine: `make smoke`."""
