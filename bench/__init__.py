"""Benchmarks that need more than one module; `nox -s bench` lists them."""
