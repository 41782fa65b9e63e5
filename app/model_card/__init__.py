"""What people are told of a model: its card, its report's figures, and images to try it with."""
