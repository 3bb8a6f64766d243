"""The status codes of binding acknowledgements and what they say.

Pure. RFC 6275 section 6.1.8, RFC 3963, 4285, 4866, 5149, 5555, 5648, 5845, 6618; IANA mobility parameters.
"""

from __future__ import annotations

from enum import IntEnum


class BindingStatus(IntEnum):
    """Below 128 the binding was accepted, from 128 on it was refused, known code or not."""

    ACCEPTED = 0
    ACCEPTED_PREFIX_DISCOVERY = 1
    GRE_TLV_NOT_SUPPORTED = 2
    GRE_TLV_NOT_REQUIRED = 3
    MULTIPLE_CARE_OF_NOT_COMPLETE = 4
    MULTIPLE_CARE_OF_RETURN_HOME = 5
    UNSPECIFIED = 128
    PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    HOME_REGISTRATION_NOT_SUPPORTED = 131
    NOT_HOME_SUBNET = 132
    NOT_HOME_AGENT = 133
    DUPLICATE_ADDRESS = 134
    SEQUENCE_OUT_OF_WINDOW = 135
    EXPIRED_HOME_NONCE = 136
    EXPIRED_CARE_OF_NONCE = 137
    EXPIRED_NONCES = 138
    TYPE_CHANGE_DISALLOWED = 139
    ROUTER_NOT_PERMITTED = 140
    INVALID_PREFIX = 141
    NOT_AUTHORISED_FOR_PREFIX = 142
    FORWARDING_SETUP_FAILED = 143
    CANNOT_FORCE_UDP = 144
    ID_MISMATCH = 144
    """RFC 5555 and RFC 4285 use one number for two things: only the context tells them apart."""
    MESSAGE_ID_REQUIRED = 145
    AUTHENTICATION_FAILED = 146
    PERMANENT_TOKEN_UNAVAILABLE = 147
    ADDRESS_PROOF_FAILED = 148
    ADDRESS_PROOF_REQUIRED = 149
    CARE_OF_INIT_REQUIRED = 150
    SERVICE_AUTHORISATION_FAILED = 151
    GRE_KEY_REQUIRED = 163
    MULTIPLE_CARE_OF_MALFORMED = 164
    SINGLE_BINDING_EXISTS = 165
    MULTIPLE_CARE_OF_PROHIBITED = 166
    UNKNOWN_CARE_OF = 167
    BULK_PROHIBITED = 168
    SIMULTANEOUS_HOME_PROHIBITED = 169
    INVALID_CARE_OF_ADDRESS = 174
    REINITIATE_SECURITY = 176

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    BindingStatus.ACCEPTED: "binding accepted",
    BindingStatus.ACCEPTED_PREFIX_DISCOVERY: "accepted, but the home prefix is about to change",
    BindingStatus.GRE_TLV_NOT_SUPPORTED: "accepted, GRE key or TLV option not supported",
    BindingStatus.GRE_TLV_NOT_REQUIRED: "accepted, GRE key or TLV option not required",
    BindingStatus.MULTIPLE_CARE_OF_NOT_COMPLETE: "accepted, but not every care-of address",
    BindingStatus.MULTIPLE_CARE_OF_RETURN_HOME: "accepted, return home without neighbour discovery",
    BindingStatus.UNSPECIFIED: "refused without a reason",
    BindingStatus.PROHIBITED: "administratively prohibited",
    BindingStatus.INSUFFICIENT_RESOURCES: "the home agent is out of resources",
    BindingStatus.HOME_REGISTRATION_NOT_SUPPORTED: "home registration not supported",
    BindingStatus.NOT_HOME_SUBNET: "the home address is not on the home link",
    BindingStatus.NOT_HOME_AGENT: "not the home agent for this mobile node",
    BindingStatus.DUPLICATE_ADDRESS: "the home address is in use by another node",
    BindingStatus.SEQUENCE_OUT_OF_WINDOW: "sequence number out of window",
    BindingStatus.EXPIRED_HOME_NONCE: "expired home nonce index",
    BindingStatus.EXPIRED_CARE_OF_NONCE: "expired care-of nonce index",
    BindingStatus.EXPIRED_NONCES: "expired nonces",
    BindingStatus.TYPE_CHANGE_DISALLOWED: "registration type change disallowed",
    BindingStatus.ROUTER_NOT_PERMITTED: "mobile router operation not permitted",
    BindingStatus.INVALID_PREFIX: "invalid mobile network prefix",
    BindingStatus.NOT_AUTHORISED_FOR_PREFIX: "not authorised for the mobile network prefix",
    BindingStatus.FORWARDING_SETUP_FAILED: "no forwarding for the mobile network prefixes",
    BindingStatus.CANNOT_FORCE_UDP: "cannot force UDP encapsulation (or: message identification mismatch)",
    BindingStatus.MESSAGE_ID_REQUIRED: "message identification option required",
    BindingStatus.AUTHENTICATION_FAILED: "authentication failed",
    BindingStatus.PERMANENT_TOKEN_UNAVAILABLE: "permanent home keygen token unavailable",
    BindingStatus.ADDRESS_PROOF_FAILED: "address proof (CGA and signature) failed",
    BindingStatus.ADDRESS_PROOF_REQUIRED: "address proof required for this care-of address",
    BindingStatus.CARE_OF_INIT_REQUIRED: "care-of test init option required",
    BindingStatus.SERVICE_AUTHORISATION_FAILED: "service authorisation failed",
    BindingStatus.GRE_KEY_REQUIRED: "GRE key option required",
    BindingStatus.MULTIPLE_CARE_OF_MALFORMED: "malformed binding identifier option",
    BindingStatus.SINGLE_BINDING_EXISTS: "a binding without identifier exists",
    BindingStatus.MULTIPLE_CARE_OF_PROHIBITED: "multiple care-of addresses prohibited",
    BindingStatus.UNKNOWN_CARE_OF: "unknown care-of address",
    BindingStatus.BULK_PROHIBITED: "bulk registration prohibited",
    BindingStatus.SIMULTANEOUS_HOME_PROHIBITED: "simultaneous use of home and foreign link prohibited",
    BindingStatus.INVALID_CARE_OF_ADDRESS: "invalid care-of address",
    BindingStatus.REINITIATE_SECURITY: "set the security association up again",
}


_BY_CODE = {int(status): status for status in BindingStatus}


def binding_status(code: int) -> int:
    """The named status of a code, or the code itself where it has no name here."""
    return _BY_CODE.get(code, code)


def status_text(code: int) -> str:
    """What a status says, for people; "refused (status 200)" where it has no name."""
    named = _BY_CODE.get(code)
    if named is not None:
        return named.text
    return f"{'accepted' if code < 128 else 'refused'} (status {code})"
