"""Reports for auditors and teams: `deploytrail report …`."""
