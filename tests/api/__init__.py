"""What a user writes: transitions, nodes, graphs, contexts, policies, errors."""
