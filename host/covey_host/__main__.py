"""`python -m covey_host` is `covey`."""

from .cli import main

main()
