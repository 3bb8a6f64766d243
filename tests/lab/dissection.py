"""Signalling on a link of the lab as tshark, who is told the keys, reads it."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

Frame = dict[str, list[str]]


def dissect(pcap: Path, keys: str, shown: str, fields: Iterable[str]) -> list[Frame]:
    """The frames that tshark's filter `shown` lets through, each field with all its values.

    `keys` is the text of a key file; its associations for signalling are told to tshark.
    """
    options = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for name, section in tomllib.loads(keys).items():
        if name not in ("update", "ack"):
            continue
        encryption = ("AES-CBC [RFC3602]", f"0x{section['encryption_key']}")
        integrity = ("HMAC-SHA-256-128 [RFC4868]", f"0x{section['integrity_key']}")
        row = ("IPv6", "*", "*", f"{section['spi']:#010x}", *encryption, *integrity)
        columns = ",".join(f'"{column}"' for column in row)
        options += ["-o", f"uat:esp_sa:{columns}"]
    wanted = [word for field in fields for word in ("-e", field)]
    command = [
        "tshark",
        "-r",
        str(pcap),
        "-d",
        "udp.port==4191,ip",
        *options,
        "-Y",
        shown,
        "-T",
        "json",
        *wanted,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [frame["_source"]["layers"] for frame in json.loads(run.stdout)]
