"""What does a run leave, and how is it read back?"""
