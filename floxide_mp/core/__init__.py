"""What must happen now. Pure decisions: no clock, no pickle, no process, no store, no randomness."""
