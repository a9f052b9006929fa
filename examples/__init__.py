"""Programs to read and to copy. Each runs by ``python -m floxide_mp examples.NAME``."""
