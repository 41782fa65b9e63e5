"""Which images are there twice, as the same file or nearly the same image?"""
