"""What main.py leaves aside: pins and watchdog, Wi-Fi, the seed, sleep. Importing it loads nothing."""
