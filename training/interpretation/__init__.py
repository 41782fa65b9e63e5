"""What has a network learnt, and where does it look?"""
