"""Who is told? The log and the metrics."""
