"""Runs before main.py. Nothing here may fail, take long or draw a secret."""

try:
    from onboard import install

    install.settle()  # an install that was cut short is completed, or undone
except ImportError:  # a board that was never installed over a cable
    pass
