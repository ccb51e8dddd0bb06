// Reading `tunnels` and their `destinations`: what each may strip, and where it may lead.

import Forwarding
import Routing

/// A tunnel, and where its parts stand: the checks of tunnels together point there.
struct TunnelDraft {
    var tunnel: Configuration.Tunnel
    var position: Position
    var local: [Placed<Prefix>] = []
    var remotes: [Placed<Prefix>] = []
    var otherRemotesPosition: Position?
    var destinationsPosition: Position?
}

extension Loader {
    private static let tunnelKeys = [
        "name", "interfaces", "local", "remotes", "otherRemotes", "modes", "destinations",
    ]

    func loadTunnels(_ top: Section) -> [TunnelDraft] {
        let example = "a list of name, local and remotes"
        guard let field = reader.required("tunnels", of: top, example: example, as: { $0 }),
            let items = reader.items(
                field, example: "[{name: …, local: […], remotes: […]}]",
                orElse: "write at least one tunnel")
        else { return [] }
        return reader.bounded(items, by: Limits.tunnel).compactMap(loadTunnel)
    }

    private func loadTunnel(_ field: Field) -> TunnelDraft? {
        guard var section = reader.section(field, keys: Self.tunnelKeys) else { return nil }
        let name = reader.required("name", of: section, example: "lvs", as: reader.tunnelName)
        if let name { section.path = "tunnels.\(name)" }
        var tunnel = Configuration.Tunnel(
            name: name ?? "", interfaces: configuration.interfaces, local: [], remotes: [])
        reader.read("interfaces", of: section, into: &tunnel.interfaces, as: tunnelInterfaces)
        let local = reader.required("local", of: section, example: "[192.0.2.2]") {
            reader.list(
                $0, example: "[192.0.2.2]", orElse: "write the outer destinations that are ours",
                as: reader.prefix)
        }
        let remotes = reader.required("remotes", of: section, example: "[192.0.2.0/24]") {
            reader.list(
                $0, example: "[192.0.2.0/24]",
                orElse: "write the outer sources that may encapsulate, 0.0.0.0/0 for any",
                as: reader.prefix)
        }
        tunnel.local = (local ?? []).map(\.content)
        tunnel.remotes = (remotes ?? []).map(\.content)
        reader.read("otherRemotes", of: section, into: &tunnel.otherRemotes, as: reader.word)
        reader.read("modes", of: section, into: &tunnel.modes, as: modes)
        if let destinations = section["destinations"] {
            tunnel.destinations = loadDestinations(destinations)
        } else if !reader.report.isPartial {
            reader.report.warning(
                section.position,
                "\(section.path).destinations: missing, so any inner destination is let in; "
                    + "write the prefixes that are served here")
        }
        reader.note(section)
        return TunnelDraft(
            tunnel: tunnel, position: section.position, local: local ?? [],
            remotes: remotes ?? [], otherRemotesPosition: section["otherRemotes"]?.position,
            destinationsPosition: section["destinations"]?.position)
    }

    private func tunnelInterfaces(_ field: Field) -> [String]? {
        guard
            let items = reader.items(
                field, example: "[eth0]", orElse: "leave the key out for all interfaces")
        else { return nil }
        var names: [String] = []
        for item in items {
            guard let name = reader.interfaceName(item) else { continue }
            checkInterface(name, path: item.path, at: item.position)
            if names.contains(name) {
                reader.error(item, "\"\(name)\" is listed twice; remove one")
            } else {
                names.append(name)
            }
        }
        return names
    }

    private func modes(_ field: Field) -> Set<Mode>? {
        let words = Mode.allCases.map { ($0.name, $0) }
        return reader.list(
            field, example: "[ipip, ip6ip]", orElse: "leave the key out for all four"
        ) { item in
            reader.word(item, among: words)
        }.map { Set($0.map(\.content)) }
    }

    // MARK: Destinations

    private func loadDestinations(_ field: Field) -> [Configuration.Destination] {
        // Silence here must not mean "any": the last pod has gone, and all would be let in.
        let orElse = "write the prefixes served here, or leave the key out to let any in"
        guard
            let items = reader.items(
                field, example: "[{prefix: 10.2.1.9/32}]", orElse: orElse)
        else { return [] }
        var destinations: [Configuration.Destination] = []
        var first: [Configuration.Destination: Position] = [:]
        for item in items {
            guard let destination = loadDestination(item) else { continue }
            var matched = destination
            (matched.device, matched.mss) = (nil, nil)
            if let earlier = first[matched] {
                reader.warning(
                    item,
                    "never matches, since the one at \(reader.report.place(earlier)) is equal; "
                        + "remove one")
            } else {
                first[matched] = item.position
            }
            destinations.append(destination)
        }
        return destinations
    }

    private func loadDestination(_ field: Field) -> Configuration.Destination? {
        if let text = field.text, PrefixText.isPrefix(text) {
            return reader.wrong(field, "is not a mapping; write {prefix: \"\(text)\"}")
        }
        let keys = ["prefix", "protocol", "ports", "device", "mss"]
        guard let section = reader.section(field, keys: keys) else { return nil }
        let prefix = reader.required(
            "prefix", of: section, example: "10.2.1.9/32", as: reader.prefix)
        // The outer nil: wrong, and reported.
        let number = section["protocol"].map(protocolNumber) ?? .some(nil)
        let ports = section["ports"].flatMap { portRanges($0, protocolNumber: number) } ?? []
        let device = section["device"].map(deviceName) ?? configuration.devices.first?.name
        let range = prefix?.isIPv4 == false ? Self.mssIPv6 : Self.mssIPv4
        let mss = section["mss"].flatMap { field -> MSSClamp? in
            if let known = number, let known, known != 6 {
                return reader.wrong(
                    field, "is for TCP only; remove it, or write protocol: tcp")
            }
            return reader.clamp(field, range)
        }
        guard let prefix else { return nil }
        return Configuration.Destination(
            prefix: prefix, protocolNumber: number ?? nil, ports: ports, device: device,
            mss: mss)
    }

    /// `any`, which is nil, a name or a number. The outer nil: wrong, and reported.
    private func protocolNumber(_ field: Field) -> UInt8?? {
        let mend = "write any, tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255"
        guard let text = field.text else { return reader.wrong(field, "is no protocol; \(mend)") }
        if text == "any" { return .some(nil) }
        let named = Words.protocols.first { $0.name == text }?.number
        guard let number = named ?? decimal(text).flatMap(UInt8.init(exactly:)) else {
            let near = Words.nearest(text, among: Words.protocols.map(\.name))
            return reader.wrong(
                field, "is no protocol; \(near.map { "did you mean \($0)?" } ?? mend)")
        }
        guard !Words.nestedProtocols.contains(number) else {
            return reader.wrong(
                field, "is a tunnel in the tunnel, which is always refused; remove the destination")
        }
        return .some(number)
    }

    private func portRanges(_ field: Field, protocolNumber: UInt8??) -> [ClosedRange<UInt16>]? {
        let items = reader.items(
            field, example: "[80, \"8000-8010\"]", orElse: "leave the key out for any port")
        let ports = items.map { reader.bounded($0, by: Limits.port) }?.compactMap {
            item -> ClosedRange<UInt16>? in
            item.text.flatMap(Words.ports)
                ?? reader.wrong(
                    item, "is no port; write a number from 1 to 65535, or a range as \"8000-8010\"")
        }
        if let number = protocolNumber, !Words.protocolsWithPorts.contains(number ?? 0) {
            reader.error(field, "only TCP, UDP, SCTP and DCCP have ports; write protocol: tcp")
        }
        return ports
    }

    private func deviceName(_ field: Field) -> String? {
        guard let name = reader.interfaceName(field) else { return nil }
        if knowsDevices, !deviceNames.contains(name) {
            let names = configuration.devices.map(\.name)
            let mend =
                Words.nearest(name, among: names).map { "did you mean \($0)?" }
                ?? "write one of \(names.joined(separator: ", "))"
            reader.error(field, "\"\(name)\" is not among devices; \(mend)")
        }
        return name
    }
}
