"""The mobile node: decides, remembers, explains."""
