"""HTTP in and out; what happens in between is the classifier's."""
