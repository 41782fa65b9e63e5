"""`python -m sightglass`."""

from sightglass.cli.main import main

main()
