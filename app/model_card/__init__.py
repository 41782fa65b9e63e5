"""What people are told of a model: its card, its report's figures, and pictures to try it with."""
