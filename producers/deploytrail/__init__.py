"""What deploy scripts import, the deploytrail command, and the gateway."""
