"""Which files and folders are what? Data sets as people lay them out."""
