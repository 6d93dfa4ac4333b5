"""What runs on MicroPython: counting.py and packets.py, and a script for each subject there."""
