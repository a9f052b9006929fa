"""Who carries it: the ledger that coordinates, the worker that steps, and the handles that a user holds."""
