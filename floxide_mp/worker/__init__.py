"""What lives in a worker's process: the loop that takes leases, runs steps and reports what came of them."""
