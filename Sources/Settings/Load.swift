// The way from texts to a configuration: read, merge, check each key, check them together.

import Forwarding
import Routing

extension Configuration {
    /// Reads, merges and checks the texts of configuration files.
    ///
    /// The first file is the main one. Each of the rest is laid over what came before it, in
    /// the order given: mappings merge key by key, scalars and plain lists are replaced,
    /// `tunnels` and `devices` merge by `name` (a new name is appended), and the
    /// `destinations` of a tunnel are appended. A name may stand only once in one file.
    ///
    /// - Parameters:
    ///   - files: the name of each, as messages shall show it, and its text in YAML.
    ///   - hostHas: whether this host has an interface of that name; one that it lacks is a
    ///     warning. nil: not looked at, as it may come yet.
    ///   - hostProblems: what this host's links make wrong with interfaces, by their names.
    /// - Returns: every problem found, each at the line and column of the file where the value
    ///   stands, in the order of files and lines; and a configuration unless one of them is an
    ///   error. Where a text is not YAML, what it may hold is not reported as missing.
    public static func load(
        files: [(name: String, text: String)], hostHas: ((String) -> Bool)? = nil,
        hostProblems: ((Configuration) -> [(name: String, text: String)])? = nil
    ) -> (configuration: Configuration?, problems: [Problem]) {
        guard let main = files.first else {
            let problem = Problem(
                file: "", line: 1, column: 1, message: "no configuration file; name one")
            return (nil, [problem])
        }
        let report = Report(fileNames: files.map(\.name))
        var merged = Value(position: Position(file: 0, line: 1, column: 1), content: .mapping([]))
        for (index, file) in files.enumerated() {
            guard let value = Document.read(file.text, file: index, report: report) else {
                continue
            }
            switch value.content {
            case .mapping, .null: break
            default:
                report.error(value.position, "the file is not a mapping; write keys and values")
                report.isPartial = true
                continue
            }
            Merge.reportEqualNames(in: value, report: report)
            merged = Merge.merge(merged, with: value)
        }
        if case .mapping(let entries) = merged.content, entries.isEmpty, !report.hasErrors {
            report.error(
                merged.position, "\(main.name) is empty; write at least interfaces and tunnels")
            return (nil, report.problems)
        }
        var loader = Loader(reader: Reader(report: report))
        loader.hostHas = hostHas
        loader.load(merged)
        for problem in hostProblems?(loader.configuration) ?? [] {
            guard let position = loader.interfacePositions[problem.name] else { continue }
            report.error(position, "interfaces: \(problem.text)")
        }
        return (report.hasErrors ? nil : loader.configuration, report.problems)
    }
}

/// Fills a configuration key by key; what is wrong keeps its default, so that the checks of
/// keys together can go on.
struct Loader {
    let reader: Reader
    var configuration = Configuration(interfaces: [], tunnels: [])
    /// Whether names of interfaces and devices can be looked up.
    var knowsInterfaces = false
    var knowsDevices = true
    /// As a destination looks its device up.
    var deviceNames: Set<String> = ["shuck0"]
    var hostHas: ((String) -> Bool)?
    var interfacePositions: [String: Position] = [:]

    private static let keys = [
        "interfaces", "tunnels", "devices", "reversePath", "mss", "outer", "inner", "icmp",
        "limits", "workers", "consume", "mode", "probes", "admin", "log",
    ]

    mutating func load(_ root: Value) {
        guard let top = reader.section(Field(path: "", value: root), keys: Self.keys) else {
            return
        }
        loadInterfaces(top)
        loadDevices(top)
        // In the order of the keys of a tunnel, and after the names that it refers to.
        let tunnels = loadTunnels(top)
        configuration.tunnels = tunnels.map(\.tunnel)
        loadReversePath(top)
        loadMSS(top)
        loadOuter(top)
        loadInner(top)
        loadICMP(top)
        loadLimits(top)
        loadWorkers(top)
        reader.read("consume", of: top, into: &configuration.consume, as: reader.word)
        reader.read("mode", of: top, into: &configuration.mode, as: reader.word)
        loadAdmin(top)
        loadLog(top)
        checkTogether(tunnels)
        reportUnsupported(probes: top["probes"])
    }

    /// The section under `key`; nil where there is none or it is no mapping.
    private func section(_ key: String, of top: Section, keys: [String]) -> Section? {
        top[key].flatMap { reader.section($0, keys: keys) }
    }

    private mutating func loadInterfaces(_ top: Section) {
        let field = reader.required("interfaces", of: top, example: "[eth0]") { $0 }
        guard let field,
            let items = reader.items(
                field, example: "[eth0]", orElse: "name the interfaces that frames arrive on")
        else { return }
        // A file that is not YAML may have had other ones.
        knowsInterfaces = !reader.report.isPartial && items.count <= Limits.interfaces
        for item in reader.bounded(items, by: Limits.interface) {
            guard let name = reader.interfaceName(item) else {
                knowsInterfaces = false
                continue
            }
            if configuration.interfaces.contains(name) {
                reader.error(item, "\"\(name)\" is listed twice; remove one")
            } else {
                configuration.interfaces.append(name)
                interfacePositions[name] = item.position
                if let hostHas, !hostHas(name) {
                    reader.warning(item, "this host has no \"\(name)\"; shuck run waits for it")
                }
            }
        }
    }

    private mutating func loadDevices(_ top: Section) {
        knowsDevices = !reader.report.isPartial
        guard let field = top["devices"] else { return }
        guard
            let items = reader.items(
                field, example: "[{name: shuck0}]", orElse: "leave the key out for one, shuck0")
        else {
            knowsDevices = false
            return
        }
        let devices = reader.bounded(items, by: Limits.device).map(loadDevice)
        // A device without a good name may be the one that a destination means.
        knowsDevices =
            knowsDevices && devices.count == items.count
            && devices.allSatisfy { $0 != nil }
        if let first = devices.first, first != nil {
            configuration.devices = devices.compactMap { $0 }
            deviceNames = Set(configuration.devices.map(\.name))
        }
    }

    private func loadDevice(_ field: Field) -> Device? {
        let keys = ["name", "mtu", "netns", "address"]
        guard var section = reader.section(field, keys: keys) else { return nil }
        let name = reader.required("name", of: section, example: "shuck0") { field in
            reader.interfaceName(field).flatMap { name -> String? in
                guard !configuration.interfaces.contains(name) else {
                    return reader.wrong(field, "is among interfaces; a device needs another name")
                }
                return name
            }
        }
        if let text = field.value.text(of: "name") { section.path = "devices.\(text)" }
        var device = Device(name: name ?? "")
        reader.read("mtu", of: section, into: &device.mtu) { field in
            let mtu = reader.number(field, 576...65535, unit: " (bytes)")
            if let mtu, mtu < 1280 {
                reader.warning(field, "\(mtu) switches IPv6 off on the device; it needs 1280")
            }
            return mtu
        }
        reader.read("netns", of: section, into: &device.netns) { field -> String?? in
            if field.isNull { return .some(nil) }
            return reader.absolutePath(field, bytesMax: 4095).map { .some($0) }
        }
        reader.read("address", of: section, into: &device.address) { field in
            reader.prefix(field).flatMap { prefix -> Prefix? in
                if prefix.isHost { return prefix }
                return reader.wrong(
                    field, "is more than one address; write /\(prefix.isIPv4 ? 32 : 128)")
            }
        }
        reader.note(section)
        return name == nil ? nil : device
    }

    private mutating func loadReversePath(_ top: Section) {
        guard
            let section = section(
                "reversePath", of: top, keys: ["mode", "interfaces", "exempt"])
        else { return }
        reader.read(
            "mode", of: section, into: &configuration.reversePath.mode,
            as: reader.reversePathMode)
        if let overrides = section["interfaces"].flatMap(reader.anyKeys) {
            for entry in overrides.entries {
                warnOfUnused(entry, among: overrides)
                let field = Field(path: overrides.path(of: entry.key), value: entry.value)
                configuration.reversePath.interfaces[entry.key] = reader.reversePathMode(field)
            }
        }
        reader.read("exempt", of: section, into: &configuration.reversePath.exempt, as: prefixes)
    }

    /// Only interfaces that frames arrive on are checked, so that an override for another one
    /// is without effect, but may be meant for a host that has it.
    private func warnOfUnused(_ override: Value.Entry, among overrides: Section) {
        guard knowsInterfaces, !configuration.interfaces.contains(override.key) else { return }
        reader.report.warning(
            override.position,
            "\(overrides.path(of: override.key)): \(override.key) is not among interfaces, so "
                + "this has no effect; remove it, or add the interface there")
    }

    /// Reports a name that is not among `interfaces`.
    func checkInterface(_ name: String, path: String, at position: Position) {
        let names = configuration.interfaces
        guard knowsInterfaces, !names.contains(name) else { return }
        let mend =
            Words.nearest(name, among: names).map { "did you mean \($0)?" }
            ?? "write one of \(names.joined(separator: ", "))"
        reader.report.error(position, "\(path): \"\(name)\" is not among interfaces; \(mend)")
    }

    private func prefixes(_ field: Field) -> [Prefix]? {
        reader.list(field, example: "[10.2.0.0/16]", as: reader.prefix)?.map(\.content)
    }

    private mutating func loadMSS(_ top: Section) {
        guard let section = section("mss", of: top, keys: ["ipv4", "ipv6", "replies"]) else {
            return
        }
        reader.read("ipv4", of: section, into: &configuration.mss.ipv4) {
            reader.clamp($0, Self.mssIPv4)
        }
        reader.read("ipv6", of: section, into: &configuration.mss.ipv6) {
            reader.clamp($0, Self.mssIPv6)
        }
        reader.read("replies", of: section, into: &configuration.mss.replies, as: reader.word)
    }

    /// The default of RFC 9293 §3.7.1, and what IPv4 in IPv4 leaves of 1520 bytes.
    static let mssIPv4 = 536...1480
    /// The same for IPv6: 1280 and 1500 bytes without both headers.
    static let mssIPv6 = 1220...1440

    private mutating func loadOuter(_ top: Section) {
        guard let section = section("outer", of: top, keys: ["ecn", "dscp", "ttl", "fragments"])
        else { return }
        let fieldModes = FieldMode.allCases.map { (String(describing: $0), $0) }
        reader.read("ecn", of: section, into: &configuration.outer.ecn) {
            reader.word($0, among: ECNMode.allCases.map { (String(describing: $0), $0) })
        }
        reader.read("dscp", of: section, into: &configuration.outer.dscp) {
            reader.word($0, among: fieldModes)
        }
        reader.read("ttl", of: section, into: &configuration.outer.ttl) {
            reader.word($0, among: fieldModes)
        }
        guard let fragments = self.section("fragments", of: section, keys: ["memory", "timeout"])
        else { return }
        reader.read(
            "memory", of: fragments, into: &configuration.outer.fragments.memory, as: memory)
        reader.read("timeout", of: fragments, into: &configuration.outer.fragments.timeout) {
            reader.duration($0, .seconds(1)...(.seconds(300)), example: "30s")
        }
    }

    private func memory(_ field: Field) -> Int? {
        guard let text = field.text, let bytes = Words.size(text) else {
            return reader.wrong(
                field, "is not a size; write 0, bytes, or a number with KiB, MiB or GiB, as 4MiB")
        }
        // The longest datagram must fit.
        guard bytes == 0 || (256 << 10...1 << 30).contains(bytes) else {
            return reader.wrong(field, "is out of range; write 0, or 256KiB to 1GiB")
        }
        return bytes
    }

    private mutating func loadInner(_ top: Section) {
        guard
            let section = section(
                "inner", of: top, keys: ["martians", "deny", "rewriteSources"])
        else { return }
        reader.read("martians", of: section, into: &configuration.inner.martians, as: reader.word)
        reader.read("deny", of: section, into: &configuration.inner.deny, as: prefixes)
        if let rewrites = section["rewriteSources"] {
            configuration.inner.rewriteSources = loadRewriteSources(rewrites)
        }
    }

    private mutating func loadICMP(_ top: Section) {
        guard
            let section = section(
                "icmp", of: top, keys: ["ratePerSecond", "burst", "source4", "source6"])
        else { return }
        reader.read("ratePerSecond", of: section, into: &configuration.icmp.ratePerSecond) {
            reader.number($0, 0...1_000_000, unit: " (packets a second)")
        }
        reader.read("burst", of: section, into: &configuration.icmp.burst) {
            reader.number($0, 1...1_000_000, unit: " (packets)")
        }
        reader.read("source4", of: section, into: &configuration.icmp.source4) {
            reader.addressOrAuto($0, isIPv4: true)
        }
        reader.read("source6", of: section, into: &configuration.icmp.source6) {
            reader.addressOrAuto($0, isIPv4: false)
        }
    }

    private mutating func loadLimits(_ top: Section) {
        guard let section = section("limits", of: top, keys: ["packetsPerSecond", "perRemote"])
        else { return }
        let limit = { [reader] (field: Field) in
            reader.numberOrOff(field, 1...1_000_000_000, unit: " (packets a second)")
        }
        reader.read(
            "packetsPerSecond", of: section, into: &configuration.limits.packetsPerSecond,
            as: limit)
        reader.read("perRemote", of: section, into: &configuration.limits.perRemote, as: limit)
    }

    private mutating func loadWorkers(_ top: Section) {
        guard let section = section("workers", of: top, keys: ["cpus", "busyPoll", "coalesce"])
        else { return }
        reader.read("cpus", of: section, into: &configuration.workers.cpus) { field -> [Int]?? in
            if field.text == "auto" { return .some(nil) }
            guard let cpus = field.text.flatMap(Words.cpus) else {
                return reader.wrong(
                    field, "is not a CPU list; write auto, or one such as \"0-3,8\", each once")
            }
            let rings = cpus.count * configuration.interfaces.count
            if cpus.count > Limits.workers {
                reader.error(field, Limits.worker.refusal(of: cpus.count))
            } else if rings > Limits.rings {
                reader.error(field, Limits.ring.refusal(of: rings))
            }
            return .some(cpus)
        }
        reader.read("busyPoll", of: section, into: &configuration.workers.busyPoll) {
            reader.duration($0, .zero...(.seconds(1)), example: "50us")
        }
        reader.read(
            "coalesce", of: section, into: &configuration.workers.coalesce, as: reader.onOff)
    }

    private mutating func loadAdmin(_ top: Section) {
        guard
            let section = section(
                "admin", of: top, keys: ["socket", "mode", "group", "listen", "listenStatus"])
        else { return }
        reader.read("socket", of: section, into: &configuration.admin.socket) {
            // sockaddr_un's 108 bytes, with the NUL at the end.
            reader.absolutePath($0, bytesMax: 107)
        }
        reader.read("mode", of: section, into: &configuration.admin.mode) { field -> UInt32? in
            guard let mode = field.text.flatMap(Words.permissions) else {
                return reader.wrong(
                    field, "is not a mode; write three octal digits, as \"0600\" or \"0660\"")
            }
            if mode & 0o002 != 0 {
                reader.warning(field, "every local user may reload shuck; write 0660 and admin.group")
            }
            return mode
        }
        reader.read("group", of: section, into: &configuration.admin.group) { field -> String?? in
            if field.isNull { return .some(nil) }
            guard let group = field.text, Words.isGroup(group) else {
                return reader.wrong(field, "is not a group; write null, a name or a number")
            }
            return .some(group)
        }
        reader.read("listen", of: section, into: &configuration.admin.listen) {
            field -> Listen?? in
            if field.isNull { return .some(nil) }
            guard let listen = field.text.flatMap(Listen.init(_:)) else {
                return reader.wrong(
                    field, "is not HOST:PORT; write null, or one such as \"127.0.0.1:10441\"")
            }
            if !listen.isLoopback {
                reader.warning(
                    field,
                    "other hosts may reach it, and whoever does reads the metrics; write 127.0.0.1, "
                        + "or let a firewall guard the port")
            }
            return .some(listen)
        }
        reader.read(
            "listenStatus", of: section, into: &configuration.admin.listenStatus, as: reader.onOff)
        if configuration.admin.listenStatus, configuration.admin.listen == nil,
            let field = section["listenStatus"]
        {
            reader.warning(field, "has no effect without admin.listen; set that, too")
        }
    }

    private mutating func loadLog(_ top: Section) {
        guard let section = section("log", of: top, keys: ["level", "format"]) else { return }
        reader.read("level", of: section, into: &configuration.log.level, as: reader.word)
        reader.read("format", of: section, into: &configuration.log.format, as: reader.word)
    }
}

extension Loader {
    typealias Device = Configuration.Device
    typealias Listen = Configuration.Listen
    typealias RewriteSource = Configuration.RewriteSource
}

extension Configuration.Listen {
    /// Reads `HOST:PORT`, where an IPv6 HOST stands in brackets; nil for anything else.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = decimal(text[text.index(after: colon)...]), (1...65535).contains(port)
        else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard let address = Address(host), !address.isIPv4 else { return nil }
        } else {
            let isName = host.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
                    || $0 == 0x2d || $0 == 0x2e
            }
            guard !host.isEmpty, isName else { return nil }
        }
        self.init(host: host, port: UInt16(port))
    }
}
