"""Which IPv4 Address Acknowledgement answers which IPv4 Home Address option.

Pure. Draft sections 3.1.1 and 3.2.1, RFC 5555 sections 3.1.1 and 4.4.1. The acknowledgement carries the
address that was asked for, unless that was 0.0.0.0; nothing else ties the two together but kind and order.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from wire.mobility import BindingAck, BindingUpdate
from wire.options import Ipv4AddressAck, Ipv4HomeAddress, every

Answers = tuple[tuple[Ipv4HomeAddress, Ipv4AddressAck | None], ...]


def ipv4_answers(update: BindingUpdate, ack: BindingAck) -> Answers:
    """Every request of `update` in its order, and its answer if there is one."""
    asked, left = every(update.options, Ipv4HomeAddress), list(every(ack.options, Ipv4AddressAck))
    found: dict[int, Ipv4AddressAck] = {}
    for fits in (_names, _is_of_its_kind, _may_be_anything):
        for index, request in enumerate(asked):
            if (
                index not in found
                and (answer := next((o for o in left if fits(o, request)), None)) is not None
            ):
                left.remove(answer)
                found[index] = answer
    return tuple((request, found.get(index)) for index, request in enumerate(asked))


def asks_for_prefix(request: Ipv4HomeAddress) -> bool:
    """A mobile network prefix rather than an address; once allocated, its length alone says so."""
    return request.prefix_request or request.prefix_length < 32


def address_answer(update: BindingUpdate, ack: BindingAck) -> Ipv4AddressAck | None:
    """The answer to the request for an IPv4 home address; None too if it grants what no host can have."""
    answers = (answer for request, answer in ipv4_answers(update, ack) if not asks_for_prefix(request))
    answer = next(answers, None)
    if answer is None or answer.status >= 128:
        return answer
    unusable = answer.address.is_unspecified or answer.address.is_multicast or answer.address.is_loopback
    return None if unusable else answer


def _names(answer: Ipv4AddressAck, request: Ipv4HomeAddress) -> bool:
    """Whether the answer tells by its address what it is about; a shorter or longer prefix still does."""
    if request.address.is_unspecified:
        return False
    if not asks_for_prefix(request):
        return answer.address == request.address
    wanted = IPv4Network((request.address, request.prefix_length), strict=False)
    return answer.address in wanted


def _is_of_its_kind(answer: Ipv4AddressAck, request: Ipv4HomeAddress) -> bool:
    """The next in order that grants an address where one is wanted, or a prefix."""
    granted = answer.status < 128 and request.address.is_unspecified
    return granted and (answer.prefix_length < 32) is asks_for_prefix(request)


def _may_be_anything(answer: Ipv4AddressAck, request: Ipv4HomeAddress) -> bool:
    """The next in order: a refusal, or a home agent that gives something else."""
    return True
