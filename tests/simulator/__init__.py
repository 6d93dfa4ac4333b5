"""A plant in a box: real members and a real key server on a virtual clock. See README.md."""
