"""How two ends with one key in their files come to keys for payload that nobody has ever used.

Pure. HKDF (RFC 5869) with SHA-256. Each end draws a random nonce when it starts and tells it in a Binding
Update or Binding Acknowledgement; the keys of both directions follow from the key in the file and both
nonces. An end whose memory was lost, or set back, draws another nonce and so begins under other keys: that is
why AES-GCM, for which one repeated nonce is the end, may be used with a key from a file (RFC 8221 section 3
forbids it for keys that are used as they are), and why neither sequence numbers nor replay windows of payload
have to survive a restart: under keys which an end has helped to make, nothing is older than that end.

There is no forward secrecy: whoever gets the key file can read what was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tunnel.payload_esp import KEY_SIZE, SALT_SIZE, PayloadAssociation
from tunnel.security import FIRST_FREE_SPI
from wire.vendor import Protection

PAYLOAD_KEY_SIZE = 32
PROTECTION_NAME = "esp-aes256gcm"
"""As `mnctl status` and `hactl bindings` say it."""

_LABEL = b"DSMIPv6 protected payload, AES-256-GCM"


@dataclass(frozen=True, slots=True)
class PayloadKey:
    """The key from the file. It never shows in a repr, and never seals anything itself."""

    octets: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.octets) != PAYLOAD_KEY_SIZE:
            raise ValueError(f"key must be {PAYLOAD_KEY_SIZE} octets long, not {len(self.octets)}")


@dataclass(frozen=True, slots=True)
class PayloadKeys:
    """What both ends compute from the same two shares."""

    to_home_agent: PayloadAssociation
    to_mobile_node: PayloadAssociation


def is_usable(share: Protection) -> bool:
    """Whether the SPI that the other end has chosen may be one."""
    return share.spi >= FIRST_FREE_SPI


def derive(
    key: PayloadKey, home_address: IPv6Address, mobile_node: Protection, home_agent: Protection
) -> PayloadKeys:
    """The associations of one session. Each direction has the SPI that its receiver has chosen."""
    salt = mobile_node.nonce + home_agent.nonce

    def association(spi: int, receiver: bytes) -> PayloadAssociation:
        spis = mobile_node.spi.to_bytes(4, "big") + home_agent.spi.to_bytes(4, "big")
        context = b"\0".join((_LABEL, receiver, home_address.packed + spis))
        octets = HKDF(SHA256(), KEY_SIZE + SALT_SIZE, salt, context).derive(key.octets)
        return PayloadAssociation(spi, octets[:KEY_SIZE], octets[KEY_SIZE:])

    return PayloadKeys(
        association(home_agent.spi, b"home agent"), association(mobile_node.spi, b"mobile node")
    )
