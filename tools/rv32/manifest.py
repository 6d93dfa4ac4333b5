import os

freeze(os.environ["RIG"], opt=3)
