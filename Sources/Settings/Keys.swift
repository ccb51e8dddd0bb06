// Every key of a configuration, in the order of the file.

import Forwarding
import IP

private let prefixes = Codec.list("prefixes", of: .prefix, example: "[10.2.0.0/16]")

/// From the default of RFC 9293 §3.7.1 to what IPv4 in IPv4 leaves of 1520 bytes.
private let mssIPv4 = 536...1480
/// The same for IPv6: 1280 and 1500 bytes without both headers.
private let mssIPv6 = 1220...1440

extension Configuration: Keyed {
    static let initial = Configuration()

    static let keys = lists + packets + errors + daemon

    private static let lists: [Key<Configuration>] = [
        Key(
            "interfaces", \.interfaces,
            .list(
                "names", of: .interfaceName, example: "[eth0]",
                orElse: "name the interfaces that frames arrive on", limit: Limits.interfaces, areNames: true
            ).checked { $0.loader.noteInterfaces($1, $0) },
            required: "[eth0]",
            "where encapsulated frames arrive: Ethernet, VLAN, bond, bridge and veth devices"),
        Key(
            "tunnels", \.tunnels,
            .mappings(
                name: \Tunnel.name, example: "[{name: …, local: […], remotes: […]}]",
                orElse: "write at least one tunnel", limit: Limits.tunnels, isPartial: true,
                note: { section, _ in section.loader.noteTunnel(section) }),
            required: "a list of name, local and remotes",
            "which outer headers may be stripped; the first match counts"),
        Key(
            "devices", \.devices,
            .mappings(
                name: \Device.name, example: "[{name: shuck0}]",
                orElse: "leave the key out for one, shuck0", limit: Limits.devices
            ).checked { $0.loader.noteDevices($1, $0) },
            unless: "one, `shuck0`",
            "TUN devices that inner packets are injected through; the first is the default"),
    ]

    private static let packets: [Key<Configuration>] = [
        Key(
            "reversePath.mode", \.reversePath.mode, .word(\.text),
            "check of inner sources against the routes back to them (RFC 3704)"),
        Key(
            "reversePath.interfaces", \.reversePath.interfaces, .overrides(.word(\.text)),
            "modes of single interfaces; a name that is not among `interfaces` gives a warning"),
        Key(
            "reversePath.exempt", \.reversePath.exempt, prefixes,
            "inner sources that are not checked"),
        Key(
            "mss.ipv4", \.mss.ipv4, .clamp(mssIPv4),
            "bound on the MSS option of SYN and SYN-ACK segments; shuck only lowers it"),
        Key("mss.ipv6", \.mss.ipv6, .clamp(mssIPv6), "the same for inner IPv6"),
        Key(
            "mss.replies", \.mss.replies, .word(),
            "`nft`: also clamp the SYN-ACKs that pods answer with, by a rule in the kernel"),
        Key(
            "outer.ecn", \.outer.ecn, .word(),
            "`standard`: RFC 6040; `copy`: the outer bits replace the inner; `pipe`: the inner stay"),
        Key(
            "outer.dscp", \.outer.dscp, .word(),
            "`pipe`: the inner one stays; `uniform`: the outer one replaces it"),
        Key(
            "outer.ttl", \.outer.ttl, .word(),
            "`pipe`: the inner one stays; `uniform`: the smaller of the two"),
        Key(
            // The longest datagram must fit.
            "outer.fragments.memory", \.outer.fragments.memory, .size(256 << 10...1 << 30),
            "per worker, for outer fragments of incomplete datagrams; 0 drops every fragment"),
        Key(
            "outer.fragments.timeout", \.outer.fragments.timeout,
            .duration(.seconds(1)...(.seconds(300)), example: "30s"),
            "longest time to complete a datagram"),
        Key(
            "inner.martians", \.inner.martians, .word(),
            "inner sources and destinations that must not be routed, such as 127.0.0.0/8"),
        Key(
            "inner.deny", \.inner.deny, prefixes,
            "further inner sources to refuse, beside the addresses of node, pods and tunnels"),
        Key(
            "inner.rewriteSources", \.inner.rewriteSources,
            .mappings(
                example: "[{from: \"fe80::1/128\", to: \"2001:db8::1\", interface: eth0}]",
                limit: Limits.rewrites, note: { section, _ in section.loader.rewrites.append(section) }),
            "health probes from a link-local address: see below"),
    ]

    private static let errors: [Key<Configuration>] = [
        Key(
            "icmp.ratePerSecond", \.icmp.ratePerSecond, .number(0...1_000_000, "packets per second"),
            "0 sends none"),
        Key("icmp.burst", \.icmp.burst, .number(1...1_000_000, "packets"), "errors sent at once"),
        Key(
            "icmp.source4", \.icmp.source4, .or("auto", .address(isIPv4: true)),
            "source address of the errors"),
        Key(
            "icmp.source6", \.icmp.source6, .or("auto", .address(isIPv4: false)),
            "source address of the errors"),
        Key(
            "limits.packetsPerSecond", \.limits.packetsPerSecond, .limit,
            "of all packets; more are dropped as `rate_limit`"),
        Key(
            "limits.perRemote", \.limits.perRemote, .limit,
            "per remote (outer source); more are dropped as `rate_limit`"),
    ]

    private static let daemon: [Key<Configuration>] = [
        Key(
            "workers.cpus", \.workers.cpus,
            .or(
                "auto",
                .text(
                    .text("a list as `\"0-3,8\"`", pattern: "^[0-9,-]+$"),
                    wrong: "is not a CPU list; write auto, or one such as \"0-3,8\", each once",
                    read: ValueSyntax.cpus, text: { "\"\(ValueSyntax.cpusText($0))\"" }
                ).checked { $0.loader.checkWorkers($1.count, $0) }),
            needsRestart: true,
            "CPUs, one worker per CPU; `auto`: up to 4 CPUs of the interface's NUMA node, see below"),
        Key(
            "workers.busyPoll", \.workers.busyPoll, .duration(.zero...(.seconds(1)), example: "50us"),
            "longest time that a worker polls empty rings before it sleeps"),
        Key(
            "workers.coalesce", \.workers.coalesce, .onOff,
            "coalesce consecutive TCP segments or UDP datagrams of a flow into one write"),
        Key(
            "consume", \.consume, .word(),
            "what keeps the kernel from answering for our frames"),
        Key("mode", \.mode, .word(), "`shadow`: judge and count, inject and claim nothing"),
        Key(
            "probes", \.probes, .futureList,
            "probes that the daemon repeats; not supported yet, must be empty"),
        Key(
            "admin.socket", \.admin.socket,
            // sockaddr_un's 108 bytes, with the NUL at the end.
            .absolutePath("path, at most 107 bytes", bytesMax: 107), needsRestart: true,
            "unix socket for all verbs"),
        Key(
            "admin.mode", \.admin.mode,
            .text(
                .text("three octal digits", pattern: "^0?[0-7]{3}$"),
                wrong: "is not a mode; write three octal digits, as \"0600\" or \"0660\"",
                read: ValueSyntax.permissions, text: { "\"\(ValueSyntax.permissionsText($0))\"" }
            ).checked { field, mode in
                guard mode & 0o002 != 0 else { return }
                field.warning("every local user may reload shuck; write 0660 and admin.group")
            },
            needsRestart: true, "permissions of the socket; who may write it may reload"),
        Key(
            "admin.group", \.admin.group,
            .or(
                "null",
                .text(
                    .text("a name or a number", pattern: "^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,31}$"),
                    wrong: "is not a group; write null, a name or a number",
                    read: { ValueSyntax.isGroup($0) ? $0 : nil }, text: Item.quoted
                )),
            needsRestart: true, "group of the socket, and of its directory when shuck creates that"),
        Key(
            "admin.listen", \.admin.listen,
            .or(
                "null",
                .text(
                    .text("`HOST:PORT`", pattern: ":[0-9]+$"),
                    wrong: "is not HOST:PORT; write null, or one such as \"127.0.0.1:10441\"",
                    read: { Listen($0) }, text: { Item.quoted($0.text) }
                ).checked { field, listen in
                    guard !listen.isLoopback else { return }
                    field.warning(
                        "other hosts may reach it, and whoever does reads the metrics; write 127.0.0.1, "
                            + "or let a firewall guard the port")
                }),
            needsRestart: true,
            "for GET of `/metrics`, `/healthz` and `/readyz` over TCP: `\"127.0.0.1:10441\"`"),
        Key(
            "admin.listenStatus", \.admin.listenStatus, .onOff, needsRestart: true,
            "serve `/status` over TCP too, for requests by address or by the name in `listen`"),
        Key(
            "admin.capture", \.admin.capture, .onOff,
            "who may write the socket may also `capture` frames; `off`: root alone"),
        Key("log.level", \.log.level, .word(), "lowest level that is logged"),
        Key(
            "log.format", \.log.format, .word(),
            "`auto`: `journal` under systemd, else `text`"),
    ]
}

extension Configuration.Tunnel: Keyed {
    static let initial = Configuration.Tunnel(name: "", local: [], remotes: [])

    static let keys: [Key<Configuration.Tunnel>] = [
        Key("name", \.name, .tunnelName, required: "lvs", "label in metrics and verdicts"),
        Key(
            "interfaces", \.interfaces,
            .list(
                "names", of: .interfaceName.checked { $0.loader.checkInterface($1, $0) }, example: "[eth0]",
                orElse: "leave the key out for all interfaces", areNames: true),
            unless: "all `interfaces`", "interfaces where its frames arrive"),
        Key(
            "local", \.local,
            .list(
                "prefixes", of: .prefix, example: "[192.0.2.2]",
                orElse: "write the outer destinations that are ours"),
            required: "[192.0.2.2]", "outer destinations that are ours"),
        Key(
            "remotes", \.remotes,
            .list(
                "prefixes", of: .prefix, example: "[192.0.2.0/24]",
                orElse: "write the outer sources that may encapsulate, 0.0.0.0/0 for any"),
            required: "[192.0.2.0/24]",
            "outer sources that may encapsulate; `0.0.0.0/0` and `\"::/0\"` must be written out"),
        Key(
            "otherRemotes", \.otherRemotes, .word(),
            "protocols 4 and 41 to `local` from others: claimed and counted, or left to the kernel"),
        Key(
            "modes", \.listOfModes,
            .list(
                "list", of: .word(\.name), example: "[ipip, ip6ip]",
                orElse: "leave the key out for all four"),
            unless: "all four",
            "encapsulations, in the kernel's names: 4in4, 6in4, 4in6, 6in6"),
        Key(
            "destinations", \.destinations,
            // An empty list must not mean "any": when the last pod has gone, nothing may be let in.
            .mappings(
                example: "[{prefix: 10.2.1.9/32}]",
                orElse: "write the prefixes served here, or leave the key out to let any in",
                remedy: { Prefix($0) != nil ? "{prefix: \"\($0)\"}" : nil },
                note: { $0.loader.warnOfEqual($1, $0) }),
            unless: "any, with a warning",
            "inner destinations, the first match counts; an empty list is an error"),
    ]
}

extension Configuration.Destination: Keyed {
    static let initial = Configuration.Destination(prefix: .allIPv4)

    static let keys: [Key<Configuration.Destination>] = [
        Key("prefix", \.prefix, .prefix, required: "10.2.1.9/32", "inner destination"),
        Key(
            "protocol", \.protocolNumber, .or("any", .protocolNumber),
            "as in /etc/protocols; tunnels (`ipip`, `ipv6`, `gre`, `mpls`) are refused"),
        Key(
            "ports", \.ports,
            .list(
                "ports and ranges",
                of: .text(
                    .choice([.number(1...65535, unit: ""), .text("range", pattern: "^[0-9]+-[0-9]+$")]),
                    wrong: "is no port; write a number from 1 to 65535, or a range as \"8000-8010\"",
                    read: ValueSyntax.ports, text: { Item.quoted(ValueSyntax.rangeText($0)) }),
                example: "[80, \"8000-8010\"]", orElse: "leave the key out for any port",
                limit: Limits.ports
            ).checked { field, _ in
                guard field.siblings?.isOf(ProtocolNumber.hasPorts, orAny: false) == false else { return }
                field.error("only TCP, UDP, SCTP and DCCP have ports; write protocol: tcp")
            },
            unless: "any",
            "`[80, \"8000-8010\"]`; only with `tcp`, `udp`, `udplite`, `sctp` or `dccp`"),
        Key(
            "device", \.device, .ifWritten(.interfaceName.checked { $0.loader.checkDevice($1, $0) }),
            unless: "the first device", "device where its packets are injected"),
        Key(
            "mss", \.mss, .ifWritten(.destinationClamp), unless: "as `mss` says",
            "as `mss.ipv4`, or for an IPv6 prefix `mss.ipv6`; only with `tcp` or `any`"),
    ]
}

extension Configuration.Device: Keyed {
    static let initial = Configuration.Device()

    static let keys: [Key<Configuration.Device>] = [
        Key(
            "name", \.name,
            .interfaceName.refined { field, name in
                field.loader.interfaces.contains(name)
                    ? field.wrong("is among interfaces; a device needs another name") : name
            },
            required: "shuck0",
            "name of the TUN device; not one of `interfaces`"),
        Key(
            "mtu", \.mtu,
            .number(576...65535, "bytes").checked { field, mtu in
                guard mtu < 1280 else { return }
                field.warning("\(mtu) switches IPv6 off on the device; it needs 1280")
            },
            "below 1280 the kernel disables IPv6 on the device, which gives a warning"),
        Key(
            "netns", \.netns, .or("null", .absolutePath("absolute path", bytesMax: 4095)),
            "network namespace of the device, as `/run/netns/NAME`; `null`: the daemon's own"),
        Key(
            "address", \.address, .host,
            "one address; a loose rp_filter drops every packet on a device without one"),
    ]
}

extension Configuration.RewriteSource: Keyed {
    static let initial = Configuration.RewriteSource(
        from: .allIPv6, to: Address(high: 0, low: 0), interface: "")

    static let keys: [Key<Configuration.RewriteSource>] = [
        Key(
            "from", \.from, .rewrittenSource, required: "\"fe80::1/128\"",
            "source of the probes, one IPv6 address"),
        Key(
            "to", \.to, .rewriteTarget, required: "\"2001:db8::1\"",
            "source that they get instead, one IPv6 address"),
        Key(
            "interface", \.interface, .interfaceName.checked { $0.loader.checkInterface($1, $0) },
            required: "eth0", "interface where the probes arrive"),
    ]
}

// MARK: - What only one key has

extension Codec {
    /// Values by the names of interfaces.
    fileprivate static func overrides<Element>(
        _ element: Codec<Element>
    ) -> Codec where Value == [String: Element] {
        Codec(
            shape: .names("name: mode", of: element.shape),
            read: { field in
                field.anyKeys().map { overrides in
                    overrides.entries.reduce(into: [:]) { values, entry in
                        field.loader.warnOfUnused(entry, in: overrides)
                        values[entry.key] = overrides[entry.key].flatMap(element.read)
                    }
                }
            },
            item: { values in
                .mapping(
                    values.sorted { $0.key < $1.key }.compactMap { name, value in
                        element.item(value).map { (name, $0) }
                    })
            })
    }
}

extension Codec<Int?> {
    fileprivate static var limit: Codec {
        .or("off", .number(1...1_000_000_000, "packets per second", or: ["off"]))
    }
}

extension Codec<[Never]> {
    /// A list that must be empty in this version.
    fileprivate static var futureList: Codec {
        Codec(
            shape: .list("list", of: .choice([])),
            read: { field in
                guard field.items(example: "[]")?.isEmpty == false else { return [] }
                field.error("a list is not supported by this version; remove it or set it to []")
                return nil
            }, item: { _ in .rows([]) })
    }
}

extension Configuration.Tunnel {
    fileprivate var listOfModes: [Mode] {
        get { Mode.allCases.filter(modes.contains) }
        set { modes = Set(newValue) }
    }
}

extension Codec<UInt8> {
    fileprivate static var protocolNumber: Codec {
        let remedy = "write any, tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255"
        return Codec(
            shape: .choice([.text("name", pattern: "^[a-z0-9]+$"), .number(0...255, unit: "")]),
            read: { field in
                guard let text = field.text else { return field.wrong("is no protocol; \(remedy)") }
                guard let number = ProtocolNumber.number(named: text) else {
                    let near = ValueSyntax.nearest(text, among: ProtocolNumber.names.map(\.name))
                    return field.wrong(
                        "is no protocol; \(near.map { "did you mean \($0)?" } ?? remedy)")
                }
                guard !ProtocolNumber.isNest(number) else {
                    return field.wrong(
                        "is a tunnel in the tunnel, which is always refused; remove the destination")
                }
                return number
            },
            item: { .scalar(ProtocolNumber.text($0)) })
    }
}

extension Section {
    /// Whether a destination's protocol is one of these; true when it is wrong, which is reported there.
    fileprivate func isOf(_ isMeant: (UInt8) -> Bool, orAny: Bool) -> Bool {
        guard let field = self["protocol"], !field.says("any") else { return orAny }
        guard let number = field.text.flatMap(ProtocolNumber.number) else { return true }
        return isMeant(number) || ProtocolNumber.isNest(number)
    }
}

extension Codec<MSSClamp> {
    /// Of the family of the destination's prefix.
    fileprivate static var destinationClamp: Codec {
        let (ipv4, ipv6) = (Codec.clamp(mssIPv4), Codec.clamp(mssIPv6))
        var codec = ipv4
        codec.read = { field in
            guard field.siblings?.isOf({ $0 == ProtocolNumber.tcp }, orAny: true) != false else {
                return field.wrong("is for TCP only; remove it, or write protocol: tcp")
            }
            let prefix = field.siblings?["prefix"]?.text.flatMap { Prefix($0) }
            return (prefix?.isIPv4 == false ? ipv6 : ipv4).read(field)
        }
        return codec
    }
}
