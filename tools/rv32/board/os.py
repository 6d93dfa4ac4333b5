def urandom(n):
    return bytes(n)
