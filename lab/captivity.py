"""A captive network: which packets stay inside, and where its portal says so.

Pure. RFC 8908, RFC 8910. Known to the router that is set up and to the portal that runs on it.
"""

from __future__ import annotations

PORT = 8080
API = "/captive-portal/api"
LOGIN = "/login"
MARK = "/run/captive"
"""A file on the router, there as long as nobody has logged in."""
TABLE = "mn-lab-portal"


OPEN = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
"""What nft(8) is told when somebody has logged in."""


def closed(lan: str) -> str:
    """What nft(8) is told before: web requests end at the portal, names are told, the rest waits."""
    return f"""{OPEN}
table inet {TABLE} {{
    chain web {{
        type nat hook prerouting priority dstnat
        iifname "{lan}" tcp dport 80 redirect to :{PORT}
    }}
    chain forward {{
        type filter hook forward priority filter
        udp dport 53 accept
        udp sport 53 accept
        drop
    }}
}}
"""
