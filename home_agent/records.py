"""Everything worth remembering about one mobile node, as a value and as plain data.

Pure. Instants are seconds of CLOCK_BOOTTIME; `Record.shifted` carries them over a reboot.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address
from typing import Any

from home_agent.address_pool import Lease
from home_agent.associations import Memory
from home_agent.binding_cache import Binding
from tunnel.path import Arrival, Encapsulation
from wire.text import text_of


@dataclass(frozen=True, slots=True)
class Record:
    """One mobile node: its binding if it has one, its leases, and the state of its associations."""

    home_address: IPv6Address
    binding: Binding | None
    leases: tuple[Lease, ...]
    memory: Memory

    def shifted(self, by: float) -> Record:
        """The same with every instant moved by `by` seconds."""
        binding = self.binding
        if binding is not None:
            binding = dataclasses.replace(
                binding,
                since=binding.since + by,
                updated_at=binding.updated_at + by,
                expires_at=binding.expires_at + by,
            )
        leases = tuple(dataclasses.replace(lease, until=lease.until + by) for lease in self.leases)
        return dataclasses.replace(self, binding=binding, leases=leases)


Document = dict[str, Any]


def to_document(record: Record) -> Document:
    """`record` as JSON-ready data."""
    memory = record.memory
    return {
        "home_address": text_of(record.home_address),
        "binding": None if record.binding is None else _from_binding(record.binding),
        "leases": [{"network": str(lease.network), "until": lease.until} for lease in record.leases],
        "memory": {
            "highest": memory.highest,
            "bitmap": memory.bitmap,
            "reserved": memory.reserved,
            "timestamp": memory.timestamp,
        },
    }


def from_document(document: Mapping[str, Any]) -> Record:
    """The inverse. ValueError for anything that `to_document` does not write."""
    try:
        home = IPv6Address(document["home_address"])
        binding, memory = document["binding"], document["memory"]
        return Record(
            home,
            None if binding is None else _to_binding(home, binding),
            tuple(
                Lease(home, IPv4Network(one["network"]), float(one["until"])) for one in document["leases"]
            ),
            Memory(
                int(memory["highest"]),
                int(memory["bitmap"]),
                int(memory["reserved"]),
                None if memory.get("timestamp") is None else int(memory["timestamp"]),
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error!r}") from None


def _from_binding(binding: Binding) -> Document:
    arrival, ipv4 = binding.arrival, binding.ipv4_home_address
    return {
        "care_of": text_of(binding.care_of),
        "local": text_of(arrival.local),
        "remote": text_of(arrival.remote),
        "local_port": arrival.local_port,
        "remote_port": arrival.remote_port,
        "interface": arrival.interface,
        "nat": binding.nat,
        "encapsulation": binding.encapsulation.value,
        "sequence": binding.sequence,
        "lifetime": binding.lifetime,
        "since": binding.since,
        "updated_at": binding.updated_at,
        "expires_at": binding.expires_at,
        "ipv4_home_address": None if ipv4 is None else text_of(ipv4),
        "prefixes": [str(prefix) for prefix in binding.prefixes],
        "router": binding.router,
        "defends_link_local": binding.defends_link_local,
        "path_mtu": binding.path_mtu,
    }


def _to_binding(home: IPv6Address, document: Mapping[str, Any]) -> Binding:
    arrival = Arrival(
        ipaddress.ip_address(document["local"]),
        ipaddress.ip_address(document["remote"]),
        int(document["local_port"]),
        int(document["remote_port"]),
        str(document["interface"]),
    )
    ipv4, path_mtu = document["ipv4_home_address"], document.get("path_mtu")
    return Binding(
        home_address=home,
        care_of=ipaddress.ip_address(document["care_of"]),
        arrival=arrival,
        nat=bool(document["nat"]),
        encapsulation=Encapsulation(document["encapsulation"]),
        sequence=int(document["sequence"]),
        lifetime=int(document["lifetime"]),
        since=float(document["since"]),
        updated_at=float(document["updated_at"]),
        expires_at=float(document["expires_at"]),
        ipv4_home_address=None if ipv4 is None else ipaddress.IPv4Address(ipv4),
        prefixes=tuple(ipaddress.ip_network(prefix) for prefix in document["prefixes"]),
        router=bool(document["router"]),
        defends_link_local=bool(document["defends_link_local"]),
        path_mtu=None if path_mtu is None else int(path_mtu),
    )
