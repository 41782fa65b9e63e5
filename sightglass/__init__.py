"""What do people type and import? The command and the client of a running service."""
