"""What runs on the board: look.py."""
