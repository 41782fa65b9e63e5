"""What does an export tell people? report.json and report.html, and the verdict table that it prints."""
