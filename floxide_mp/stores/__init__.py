"""What is remembered: implementations of ``ports.CheckpointStore``."""
