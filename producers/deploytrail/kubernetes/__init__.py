"""Kubernetes hooks: `admission` lets only permitted images in, `watch` finds what came in without a permit."""
