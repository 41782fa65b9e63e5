"""Which networks are there, and how are they built and described?"""
