"""The pure core, without one process: random graphs, schedules and deaths against the sequential run."""
