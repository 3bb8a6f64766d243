"""Network namespaces to roam in."""
