"""How an artifact is served."""
