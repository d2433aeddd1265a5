"""Suppressed alerts, mirrored as silences of Alertmanager."""
