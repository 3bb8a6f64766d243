"""The home agent: the other end of every tunnel."""
