"""What main.py leaves aside: the board's pins, Wi-Fi, seed, sleep. Importing it loads nothing."""
