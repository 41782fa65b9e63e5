"""What are people told of a model? Its card, and images to try it with."""
