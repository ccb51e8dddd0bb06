// Every key of a file of targets, in the order of the file.

import Forwarding
import IP
import Probing

private func addressList(_ example: String) -> Codec<[Address]> {
    .list(
        "addresses", of: hostAddress, example: example, orElse: "write at least one address", areNames: true)
}

/// In place of an unspecified source the kernel would choose one.
private let hostAddress = Codec.anyAddress.refined { field, address in
    address.isUnspecified ? field.wrong("is no host's address; write one that is") : address
}

/// One of each family.
private func sources(_ example: String) -> Codec<[Address]> {
    addressList(example).refined { field, sources in
        for isIPv4 in [true, false] {
            let family = sources.filter { $0.isIPv4 == isIPv4 }
            guard family.count > 1 else { continue }
            return field.wrong(
                "holds \(family.count) \(isIPv4 ? "IPv4" : "IPv6") addresses; write one of each family")
        }
        return sources
    }
}

extension ProbeTargets: Keyed {
    static let initial = ProbeTargets()

    static let keys: [Key<ProbeTargets>] = [
        Key(
            "outerSources", \.outerSources, sources("[192.0.2.1]"), required: "[192.0.2.1]",
            "outer sources of the probes, one of each family: addresses that the tunnels' `remotes` hold"),
        Key(
            "innerSources", \.innerSources, sources("[192.0.2.1]"), required: "[192.0.2.1]",
            "inner sources, one of each family; the answers go there directly, so they are this host's"),
        Key(
            "modes", \.modes,
            .list(
                "list", of: .word(\.name), example: "[ipip, ip6ip6]",
                orElse: "leave the key out for all four",
                areNames: true),
            unless: "all four", "encapsulations to ask in"),
        Key(
            "realservers", \.realservers,
            .mappings(
                name: \Realserver.name, example: "[{name: node1, addresses: [192.0.2.2]}]",
                orElse: "write at least one realserver",
                note: { section, _ in section.loader.realservers.append(section) }),
            required: "a list of name and addresses", "nodes, by the outer destinations of their tunnels"),
        Key(
            "services", \.services,
            .mappings(
                name: \Service.name, example: "[{name: web, addresses: [203.0.113.10], ports: [443]}]",
                orElse: "write at least one service",
                note: { section, _ in section.loader.services.append(section) }),
            required: "a list of name, addresses and ports", "what is asked of each realserver"),
    ]
}

extension ProbeTargets.Realserver: Keyed {
    static let initial = ProbeTargets.Realserver(name: "")

    static let keys: [Key<ProbeTargets.Realserver>] = [
        Key("name", \.name, .tunnelName, required: "node1", "shown in the table"),
        Key(
            "addresses", \.addresses, addressList("[192.0.2.2]"), required: "[192.0.2.2]",
            "outer destinations"),
    ]
}

extension ProbeTargets.Service: Keyed {
    static let initial = ProbeTargets.Service(name: "")

    static let keys: [Key<ProbeTargets.Service>] = [
        Key("name", \.name, .tunnelName, required: "web", "shown in the table"),
        Key(
            "addresses", \.addresses, addressList("[203.0.113.10]"), required: "[203.0.113.10]",
            "inner destinations"),
        Key(
            "protocol", \.probeProtocol, .word(\.rawValue),
            "what is sent: a TCP SYN, a datagram or an ICMP echo request"),
        Key(
            "ports", \.ports,
            .list("ports", of: .number(1...65535, "port"), example: "[443]", areNames: true)
                .checked { field, _ in
                    guard field.siblings?["protocol"]?.text == ProbeProtocol.icmp.rawValue else { return }
                    field.error("ICMP has no ports; remove the key, or write protocol: tcp")
                },
            unless: "required unless `protocol` is `icmp`", "destination ports"),
        Key(
            "realservers", \.realservers,
            .ifWritten(
                .list(
                    "names", of: .tunnelName, example: "[node1]", orElse: "leave the key out for all",
                    areNames: true)),
            unless: "all", "names of `realservers` that have this service"),
    ]
}
