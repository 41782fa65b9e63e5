"""What is the service compared with? The bare loop, HTTP alone, and what tutorials end with."""
