"""The key server as a service: its user, what it tells systemd, its unit, its health."""
