"""What people import and type: the command and the client of a running service."""
