"""What a user writes and calls: nodes, transitions, contexts, workflows. Lives in every process."""
