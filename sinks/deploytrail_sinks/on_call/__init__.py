"""Findings and failed deployments become pages, one incident per stable key."""
