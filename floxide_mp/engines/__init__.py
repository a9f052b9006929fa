"""Where steps run: implementations of ``ports.Engine``."""
