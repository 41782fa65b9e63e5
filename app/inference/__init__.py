"""What is in the image? From encoded bytes to a prediction, through one proven engine."""
