"""Covey: secure multicast for microcontrollers.

Importing the package loads nothing. An application names what it wants: `covey.aio` to take
part in a group, `covey.member` for the synchronous data path underneath.
"""
