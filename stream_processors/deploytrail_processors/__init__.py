"""Processors that correct clocks, derive deployments and judge them."""
