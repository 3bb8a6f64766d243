"""Where am I attached, and through what?"""
