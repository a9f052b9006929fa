"""The command line, ``python -m floxide_mp``."""
