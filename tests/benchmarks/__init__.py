"""Numbers, measured on this machine: `make bench` runs every bench_*.py here and prints one table."""
