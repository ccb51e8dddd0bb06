# The intended differences from Linux: the ids of docs/rfc-compliance.md, and when each applies.
import ipaddress
from fnmatch import fnmatchcase

import packets as p


class Case:
    """One frame: its name, what the kernel's tunnels handed on of it, and what the kernel forwarded."""

    def __init__(self, name, frame, handed, forwarded):
        self.outer = p.Parts(frame[14:])
        self.name, self.handed, self.forwarded = name, handed, forwarded
        inner = handed[0] if handed else forwarded[0] if forwarded else b""
        # The packet that the tunnel handed on first, or where none did, the first one forwarded.
        self.inner = p.Parts(inner)


def source(*prefixes):
    return lambda case: case.inner.is_in(*prefixes)


def embedded(*prefixes):
    """The IPv4 address within a source of 6to4 or NAT64."""
    def applies(case):
        if case.inner.is_in("2002::/16"):
            address = case.inner.source.sixtofour
        elif case.inner.is_in("64:ff9b::/96"):
            address = ipaddress.IPv4Address(int(case.inner.source) & 0xffffffff)
        else:
            return False
        return any(address in ipaddress.ip_network(prefix) for prefix in prefixes if ":" not in prefix)
    return applies


def destination(*prefixes):
    return lambda case: case.inner.is_in(*prefixes, source=False)


def protocol(*numbers):
    return lambda case: case.inner.protocol in numbers


def named(*patterns):
    return lambda case: any(fnmatchcase(case.name.removeprefix("damaged-"), pattern) for pattern in patterns)


def beyond_bounds(parts):
    return len(parts.chain) > 8 or parts.chain_length > 256


# What a route leads to by cali0.
BEHIND_PODS = ["10.2.1.0/24", "10.2.2.0/24", "2001:db8:2:1::/64", "2001:db8:2:2::/64"]
PODS = ["10.2.1.9/32", "10.2.1.10/32", "10.2.2.0/24",
        "2001:db8:2:1::9/128", "2001:db8:2:1::10/128", "2001:db8:2:2::/64"]
RESERVED = ["0.0.0.0/8", "169.254.0.0/16", "240.0.0.0/4"]
NO_WAY_BACK = ["2001:db8:bad::/48"]

# Stricter: shuck drops what the kernel forwards, or waits for more. id: (shuck's reason, or where it has none
# its verdict; whether it applies).
STRICTER = {
    "source-reserved": ("ip_invalid_source", source(*RESERVED)),
    "source-ipv4-in-ipv6": ("ip_invalid_source", source("::/96", "::ffff:0:0/96")),
    "source-site-local": ("ip_invalid_source", source("fec0::/10")),
    "source-pod": ("ip_local_source", source(*BEHIND_PODS)),
    "source-embedding": ("ip_local_source", embedded(*BEHIND_PODS, "192.0.2.2/32", "192.0.2.4/32", "10.2.0.1/32")),
    "source-embedding-martian": ("ip_invalid_source",
                                 embedded(*RESERVED, "127.0.0.0/8", "224.0.0.0/4", "192.0.2.255/32")),
    "source-own-ipv6": ("ip_local_source", source("2001:db8:1::/64", "2001:db8:2::/64")),
    "source-itself": ("ip_local_source",
                      lambda case: case.inner.source is not None and case.inner.source == case.inner.destination),
    "source-no-route-ipv6": ("ip_rpfilter", source(*NO_WAY_BACK)),
    "destination-reserved": ("ip_invalid_dest",
                             destination(*RESERVED, "::/96", "::ffff:0:0/96", "fec0::/10")),
    "destination-any": ("destination_not_allowed", lambda case: not destination(*PODS)(case)),
    "nest-local": ("tunnel_nested", lambda case: protocol(p.IPIP, p.IPV6)(case) and len(case.handed) > 1),
    "nest-onward": ("tunnel_nested", lambda case: protocol(p.IPIP, p.IPV6)(case) and len(case.handed) == 1),
    "nest-gre-mpls": ("tunnel_nested", protocol(p.GRE, p.MPLS)),
    "extension-bounds-outer": ("ipv6_bad_exthdr", lambda case: beyond_bounds(case.outer)),
    "extension-bounds-inner": ("ipv6_bad_exthdr", lambda case: beyond_bounds(case.inner)),
    "length-zero": ("ip_inhdr", lambda case: case.inner.is_hop_by_hop and not case.inner.has_length),
    "fragments-contained": ("frag_overlap",
                            named("overlap-contained*", "overlap-same-*", "overlap-two-as-one*")),
    "fragments-again": ("frag_overlap", named("overlap-then-again*")),
    "fragments-count": ("frag_mem_limit", named("fragments-count-65-*")),
    "fragments-odd": ("frag_overlap", named("fragment-odd-*")),
    "fragments-chain": ("frag_overlap", named("fragments-chain-cut-*")),
    "fragments-chain-inner": ("ipv6_bad_exthdr", named("inner-first-fragment-*")),
}


# Left to the router: shuck hands on, and the routing behind it refuses, as it does behind the kernel's
# tunnels.
ROUTED = {
    "router-lifetime": (None, lambda case: case.inner.ttl == 1),
    "router-mtu": (None, lambda case: case.inner.length > 1500),
    "router-hop-by-hop": (None, lambda case: case.inner.is_hop_by_hop),
    "router-cipso": (None, lambda case: case.inner.has_option(134)),
}
