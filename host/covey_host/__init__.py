"""Covey's host side: the key server, its store and the `covey` command. CPython only."""
