"""What are the images? From a folder or a name to arrays, splits and batches."""
