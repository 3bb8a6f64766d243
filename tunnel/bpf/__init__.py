"""eBPF: the tier of the data plane in which the kernel itself wraps, unwraps and forwards."""
