// Part of ReasonHelp (ReasonHelp.swift): the help of each reason, in the order of precedence.

import Forwarding

extension ReasonHelp {
    public static let all = headers + fragments + tunnels + innerPackets + destinations + devices

    private static let status = ("shuck status", "the last frame that was dropped for the reason")

    private static let headers = [
        ReasonHelp(
            .packetTooSmall, "the outer or inner packet ends before its headers or its stated length",
            causes: ["captures cut by a snap length", "a sender that states wrong lengths"],
            commands: [("tcpdump -ni IF -vv 'FILTER'", "`truncated-ip`, or an inner length too large")],
            filter: FrameFilter.frames(
                outer4: "ip[2:2] > len - 14", outer6: "ip6[4:2] > len - 54", inner4: "", inner6: "") + " or "
                + FrameFilter.frames(
                    outer4: nil, inner4: "$2:2 > ip6[4:2]", inner6: "$4:2 + 40 > ip6[4:2]") + " or "
                + FrameFilter.frames(
                    outer6: nil, inner4: "$2:2 > ip[2:2] - 20", inner6: "$4:2 > ip[2:2] - 60")),
        ReasonHelp(
            .invalidHeader,
            """
            invalid version, header length or options; protocol 4 without IPv4 or 41 without IPv6; jumbograms
            """,
            causes: ["an encapsulator that writes the wrong protocol number", "a fuzzer, or an attack"],
            commands: [("tcpdump -ni IF -vvx 'FILTER'", "the bytes of the header")],
            filter: FrameFilter.frames(
                inner4: "($0 & 0xf0 != 0x40 or $0 & 0x0f < 5)", inner6: "$0 & 0xf0 != 0x60")),
        ReasonHelp(
            .invalidChecksum, "an outer or inner IPv4 header checksum is wrong",
            causes: ["the encapsulator", "a device on the path that changes a header"],
            commands: [("tcpdump -ni IF -vv 'FILTER' | grep 'bad cksum'", "the headers that are wrong")],
            filter: FrameFilter.frames(inner4: "") + " or (ip proto 41)"),
        ReasonHelp(
            .badExtensionHeader,
            """
            outer extension headers: an unknown option that forbids skipping, segments left, hop-by-hop not \
            first, more than 8 headers or 256 bytes; inner: beyond the same bounds; both: a first fragment \
            without its whole header chain (RFC 7112)
            """,
            causes: ["an attack that hides what a packet carries", "a sender of experimental options"],
            commands: [("tcpdump -ni IF -vv 'FILTER'", "the chain of headers")],
            filter: "ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 60 or "
                + FrameFilter.frames(inner6: "($6 = 0 or $6 = 43 or $6 = 44 or $6 = 60)")),
        ReasonHelp(
            .sourceRoute, "a loose or strict source route option, outer or inner (RFC 6274)",
            causes: ["the source: legitimate hosts do not send these"],
            commands: [("tcpdump -ni IF -vv 'FILTER'", "the source, and its options")],
            filter: "((ip proto 4 or ip proto 41) and ip[0] & 0x0f > 5) or "
                + FrameFilter.frames(inner4: "$0 & 0x0f > 5")),
    ]

    private static let fragments = [
        ReasonHelp(
            .fragmentOverlap,
            """
            an outer fragment overlaps another fragment of its datagram, or gives the datagram a second end \
            (RFC 5722); later fragments of a refused datagram count here too, whatever the first refusal was
            """,
            causes: ["a faulty sender, or an attack"],
            commands: [("tcpdump -ni IF -vv 'FILTER'", "offsets and lengths by identification")],
            filter: FrameFilter.fragments),
        ReasonHelp(
            .duplicateFragment, "an exact duplicate of an outer fragment; the datagram remains valid",
            causes: ["a path that duplicates packets"],
            commands: [("tcpdump -ni IF -vv 'FILTER'", "fragments that come twice")],
            filter: FrameFilter.fragments),
        ReasonHelp(
            .fragmentMemoryLimit,
            """
            an outer fragment did not fit into the remote's eighth of `outer.fragments.memory`, or was the \
            65th of its datagram
            """,
            causes: [
                "a flood: `shuck_reassembly_failures_total` grows too", "too little memory for the rate",
            ],
            commands: [
                (
                    "curl --unix-socket /run/shuck/shuck.sock http://shuck/metrics | grep reassembly",
                    "datagrams that were given up, by reason"
                ),
                ("tcpdump -ni IF -vv 'FILTER'", "who sends fragments"),
            ],
            filter: FrameFilter.fragments),
        ReasonHelp(
            .fragmentsDisabled, "an outer fragment while `outer.fragments.memory` is 0",
            causes: [
                "the path's MTU between balancer and node: inner packet and outer header must fit"
            ],
            commands: [
                ("shuck probe … --path-mtu", "on the balancer: the largest inner packet that passes"),
                ("tracepath -n NODE", "on the balancer: the MTU of the path"),
            ],
            filter: FrameFilter.fragments),
    ]

    private static let tunnels = [
        ReasonHelp(
            .remoteNotAllowed,
            """
            protocol 4 or 41 to one of our addresses from a source that no tunnel lists, or from our own \
            address
            """,
            causes: [
                "a balancer that is missing in `tunnels[].remotes`",
                "an overlay between nodes (Calico): `otherRemotes: pass` leaves it to the kernel",
                "a spoofer",
            ],
            commands: [
                status, ("shuck check | grep remotes", "who may encapsulate"),
                ("tcpdump -ni IF 'FILTER'", "the outer sources that do; add `and not src net REMOTE`"),
            ]),
        ReasonHelp(
            .modeNotAllowed, "the remote may encapsulate, but not in this mode",
            causes: [
                "`tunnels[].modes` lacks the mode", "a balancer that changed the family of its tunnels",
            ],
            commands: [status, ("shuck check | grep modes", "the modes of each tunnel")]),
        ReasonHelp(
            .tunnelECN, "outer CE on an inner packet that is not ECN-capable (RFC 6040 §4.2)",
            causes: ["a router that marks", "an encapsulator that does not copy the ECN field"],
            commands: [("tcpdump -ni IF -v 'FILTER'", "`tos 0x3` (IPv6: `class 0x03`) of the outer header")],
            filter: FrameFilter.frames(
                outer4: "ip[1] & 3 = 3", outer6: "ip6[1] & 0x30 = 0x30", inner4: "$1 & 3 = 0",
                inner6: "$1 & 0x30 = 0")),
        ReasonHelp(
            .nestedTunnel, "the inner packet is a tunnel again (protocol 4, 41, 47 or 137)",
            causes: ["an attack", "a balancer behind a balancer"],
            commands: [("tcpdump -ni IF -v 'FILTER'", "both tunnels' addresses")],
            filter: FrameFilter.frames(
                inner4: "($9 = 4 or $9 = 41 or $9 = 47 or $9 = 137)",
                inner6: "($6 = 4 or $6 = 41 or $6 = 47 or $6 = 137)")),
    ]

    private static let innerPackets = [
        ReasonHelp(
            .ttlExpired, "the inner TTL or hop limit is 0",
            causes: ["a loop"],
            commands: [("traceroute -n DESTINATION", "on the client: routers that come twice")],
            filter: FrameFilter.frames(inner4: "$8 = 0", inner6: "$7 = 0")),
        ReasonHelp(
            .invalidSource,
            """
            a source that no packet may have: 0/8, 127/8, 169.254/16, 224/4, 240/4, ::/96, IPv4-mapped, \
            multicast, link- and site-local, 6to4 and NAT64 with such an IPv4 address
            """,
            causes: ["a balancer's health probes: `inner.rewriteSources`", "a spoofer"],
            commands: [status, ("tcpdump -ni IF -v 'FILTER'", "the inner sources")],
            filter: FrameFilter.frames(
                inner4: "($12 = 0 or $12 = 127 or $12:2 = 0xa9fe or $12 >= 224)",
                inner6:
                    "($8:4 = 0 or $8 = 0xff or $8:2 & 0xff80 = 0xfe80 or $8:2 = 0x2002 or $8:4 = 0x64ff9b)")),
        ReasonHelp(
            .localSource,
            """
            the source is an address of this host, of a tunnel or of a destination prefix, lies behind a \
            device that is no uplink (a pod's), is listed in `inner.deny`, is the `to` of a rewrite rule, or \
            is the packet's own destination; in a 6to4 or NAT64 source the embedded IPv4 address counts
            """,
            causes: [
                "a pod or an outsider who spoofs",
                "a client whose route leaves by a device neither in `interfaces` nor of a default route",
                "a prefix of `destinations` that holds the client",
            ],
            commands: [
                status,
                (
                    "shuck status --why SOURCE --destination DESTINATION",
                    "the rule, table and route that decide"
                ),
                ("ip route get SOURCE", "the device that leads to the source"),
            ]),
        ReasonHelp(
            .reversePath,
            "the route back to the source does not leave by the interface that received the frame",
            causes: [
                "asymmetric routes: `reversePath.mode: feasible` or `loose`, or `reversePath.interfaces`",
                "a route that is missing on this host", "a spoofer",
            ],
            commands: [
                (
                    "shuck status --why SOURCE --destination DESTINATION",
                    "the rule, table and route that decide"
                ),
                ("ip route get SOURCE", "the kernel's own choice; `ip rule` lists what may change it"),
            ]),
        ReasonHelp(
            .invalidDestination, "a destination that no packet may have",
            causes: ["a balancer whose service has no right address", "an attack"],
            commands: [status],
            filter: FrameFilter.frames(
                inner4: "($16 = 0 or $16 = 127 or $16:2 = 0xa9fe or $16 >= 224)",
                inner6: "($24:4 = 0 or $24 = 0xff or $24:2 & 0xff80 = 0xfe80 or $24:2 = 0x2002 "
                    + "or $24:4 = 0x64ff9b)")),
    ]

    private static let destinations = [
        ReasonHelp(
            .destinationNotAllowed, "no rule of `destinations` matches",
            causes: [
                "a service, port or protocol that is missing in `tunnels[].destinations`",
                "a service that moved to the balancer before this node knew it",
            ],
            commands: [
                status, ("shuck check | grep -A20 destinations", "what is allowed"),
                (
                    "shuck probe … --inner-dst SERVICE --port PORT",
                    "on the balancer: whether it is answered now"
                ),
            ]),
        ReasonHelp(
            .packetTooBig,
            """
            larger than the MTU of its device in a pod's namespace, and shuck sent no ICMP error: IPv4 \
            without DF, an ICMP error, a later fragment, or over `icmp.ratePerSecond`; answered packets \
            count in `shuck_replied_packets_total`. For a device in the host's namespace the kernel decides
            """,
            causes: [
                "an MSS that is too large for the pod's MTU: see troubleshooting",
                "a sender that ignores path MTU discovery",
            ],
            commands: [
                ("shuck probe … --path-mtu", "on the balancer: the MSS that is answered and the path MTU"),
                ("tcpdump -ni IF 'FILTER'", "inner packets over 1400 bytes; write the device's MTU"),
            ],
            filter: FrameFilter.frames(inner4: "$2:2 > 1400", inner6: "$4:2 > 1360")),
        ReasonHelp(
            .rateLimit,
            "the packet exceeds `limits.packetsPerSecond`, or its remote exceeds `limits.perRemote`",
            causes: ["a flood", "limits that are too low for the load"],
            commands: [status, ("shuck check | grep -A2 limits", "the limits in force")]),
    ]

    private static let devices = [
        ReasonHelp(
            .deviceFull, "the device's queue had no room (EAGAIN, ENOBUFS, ENOMEM)",
            causes: ["more load than this host's kernel takes", "memory that is short"],
            commands: [
                ("shuck status", "rates per worker, and the device's state"),
                ("ip -s link show shuck0", "what the device dropped"), ("free -m", "memory that is left"),
            ]),
        ReasonHelp(
            .deviceError,
            """
            the device refused the write: down (EIO), gone (EBADFD), or its namespace is absent (EBADF)
            """,
            causes: ["a pod that ended", "somebody who set the device down or removed it"],
            commands: [
                ("shuck status", "the state of each device, and why"),
                ("ip link show shuck0", "whether the device is there and up"),
            ]),
        ReasonHelp(
            .gsoInvalid,
            """
            offload fields that do not match the inner packet: an unfinished checksum outside its own field \
            (TCP, UDP, ICMP; never SCTP), segments of another protocol or family, an incomplete transport \
            header, offload on a fragment; or the kernel refused a segmented write; of coalesced packets \
            only those that a later packet of their flow had overtaken
            """,
            causes: [
                "a driver or a virtual machine that fills in wrong offload fields",
                "a kernel that refuses coalesced packets: `shuck_refused_joins_total` grows too",
            ],
            commands: [
                ("shuck status", "`joining` and each device's `joins`"),
                (
                    "ethtool -K IF gro off",
                    "frames as the sender made them: the counter stops if GRO's are wrong"
                ),
            ]),
    ]
}
