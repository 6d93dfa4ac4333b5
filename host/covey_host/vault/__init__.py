"""The site key, and what is sealed under it: the store's values and backups."""
