"""Who listens? Sockets, processes and connections."""
