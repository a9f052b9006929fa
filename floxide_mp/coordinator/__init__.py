"""What lives in the coordinator's process: runs, their queue and leases, commits, and the handles of users."""
