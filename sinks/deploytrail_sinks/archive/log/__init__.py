"""The archive's Merkle log: salted commitments to every record, checkpoints that outsiders can check."""
