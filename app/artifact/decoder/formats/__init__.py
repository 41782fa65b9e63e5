"""What of each format does decoding need, and what is odd in it?"""
