"""Benchmarks: the product's own classes between real namespaces, each figure beside the raw path's."""
