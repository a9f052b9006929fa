"""Large payloads in memory that the coordinator's process and its workers share."""
