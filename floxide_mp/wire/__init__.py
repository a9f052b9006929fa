"""Values to bytes and back, and what else the coordinator's process and the workers' have in common."""
