"""The data plane of either end of the tunnel."""
