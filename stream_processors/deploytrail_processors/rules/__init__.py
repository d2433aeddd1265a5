"""Decisions: frozen values and partition time in, values with a reason out.

Nothing here reads a clock, the environment, a file or the network. Instants are int microseconds
since the epoch (UTC), as on the wire; state is plain JSON with a version.
"""
