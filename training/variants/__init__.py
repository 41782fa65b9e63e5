"""Which files does an artifact hold, and what proves each?"""
