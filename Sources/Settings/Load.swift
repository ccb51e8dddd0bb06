// The way from texts to a configuration: read, merge, check each key, check them together.

import Forwarding
import IP

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
        let loader = Loader(report: report, hostHas: hostHas)
        let configuration = loader.load(merged)
        for problem in hostProblems?(configuration) ?? [] {
            guard let position = loader.interfacePositions[problem.name] else { continue }
            report.error(position, "interfaces: \(problem.text)")
        }
        return (report.hasErrors ? nil : configuration, report.problems)
    }

    /// With the names that a tunnel and a destination need not write: all interfaces, and the
    /// first device.
    var withNames: Configuration {
        var whole = self
        for index in tunnels.indices {
            if tunnels[index].interfaces.isEmpty { whole.tunnels[index].interfaces = interfaces }
            for place in tunnels[index].destinations.indices
            where tunnels[index].destinations[place].device == nil {
                whole.tunnels[index].destinations[place].device = devices.first?.name
            }
        }
        return whole
    }
}

/// What the keys of a file refer to, and where they stand. What is wrong keeps its default, so that
/// the checks of keys together can go on.
final class Loader {
    let report: Report
    private let hostHas: ((String) -> Bool)?
    /// Where every key that was read stands, by its path.
    private(set) var positions: [String: Position] = [:]

    /// Names that can be referred to; not all are known where one of them is wrong.
    private(set) var interfaces: [String] = []
    private(set) var interfacePositions: [String: Position] = [:]
    private(set) var knowsInterfaces = false
    private var devices = Configuration().devices.map(\.name)
    private lazy var deviceNames = Set(devices)
    private(set) var knowsDevices = false

    /// The mappings of the tunnels and of the rewrite rules, as the configuration has them.
    private var tunnels: [Section] = []
    var rewrites: [Section] = []
    /// Of the tunnel that is read: where each destination stands, apart from what it leads to.
    var destinations: [Configuration.Destination: Position] = [:]

    init(report: Report, hostHas: ((String) -> Bool)? = nil) {
        self.report = report
        self.hostHas = hostHas
    }

    func load(_ root: Value) -> Configuration {
        var configuration = Configuration()
        let keys = Configuration.keys
        let names = Key.groups(keys, 0).map(\.name)
        guard let top = Field(path: "", value: root, loader: self).section(names) else {
            return configuration
        }
        knowsDevices = !report.isPartial && top["devices"] == nil
        // What the others refer to comes first.
        for isReferredTo in [true, false] {
            let some = keys.filter {
                ["interfaces", "devices"].contains($0.description.path[0]) == isReferredTo
            }
            read(some, of: top, into: &configuration)
        }
        configuration = configuration.withNames
        let drafts = zip(configuration.tunnels, tunnels).map(TunnelDraft.init)
        checkRewrites(rewrites, configuration)
        if configuration.admin.listenStatus, configuration.admin.listen == nil,
            let position = positions["admin.listenStatus"]
        {
            report.warning(
                position, "admin.listenStatus: has no effect without admin.listen; set that, too")
        }
        checkTogether(drafts, configuration)
        return configuration
    }

    /// Remembers where the keys of a section stand, under its path as messages have it.
    func note(_ section: Section) {
        for entry in section.entries {
            positions[section.path(of: entry.key)] = entry.value.position
        }
    }
}

// MARK: - Names, and who refers to them

extension Loader {
    func noteInterfaces(_ names: [String], _ field: Field) {
        let items = field.items(example: "") ?? []
        interfaces = names
        // A file that is not YAML may have had other ones.
        knowsInterfaces =
            !report.isPartial && items.count <= Limits.interfaces
            && items.allSatisfy { names.contains($0.text ?? "") }
        for item in items {
            guard let name = item.text, names.contains(name), interfacePositions[name] == nil else {
                continue
            }
            interfacePositions[name] = item.position
            if hostHas?(name) == false {
                item.warning("this host has no \"\(name)\"; shuck run waits for it")
            }
        }
    }

    func noteDevices(_ devices: [Configuration.Device], _ field: Field) {
        self.devices = devices.map(\.name)
        // A device without a good name may be the one that a destination means.
        knowsDevices = !report.isPartial && field.items(example: "")?.count == devices.count
    }

    func noteTunnel(_ section: Section) {
        tunnels.append(section)
        destinations = [:]
        guard section["destinations"] == nil, !report.isPartial else { return }
        report.warning(
            section.position,
            "\(section.path).destinations: missing, so any inner destination is let in; "
                + "write the prefixes that are served here")
    }

    func warnOfEqual(_ destination: Configuration.Destination, _ section: Section) {
        var matched = destination
        (matched.device, matched.mss) = (nil, nil)
        guard let earlier = destinations.updateValue(section.position, forKey: matched) else { return }
        destinations[matched] = earlier
        report.warning(
            section.position,
            "\(section.path): never matches, since the one at \(report.place(earlier)) is equal; "
                + "remove one")
    }

    /// Only interfaces that frames arrive on are checked, so that an override for another one
    /// is without effect, but may be meant for a host that has it.
    func warnOfUnused(_ override: Value.Entry, in overrides: Section) {
        guard knowsInterfaces, !interfaces.contains(override.key) else { return }
        report.warning(
            override.position,
            "\(overrides.path(of: override.key)): \(override.key) is not among interfaces, so this has no "
                + "effect; remove it, or add the interface there")
    }

    /// Reports a name that is not among `interfaces`.
    func checkInterface(_ name: String, _ field: Field) {
        guard knowsInterfaces, !interfaces.contains(name) else { return }
        field.error("\"\(name)\" is not among interfaces; \(mend(name, among: interfaces))")
    }

    func checkDevice(_ name: String, _ field: Field) {
        guard knowsDevices, !deviceNames.contains(name) else { return }
        field.error("\"\(name)\" is not among devices; \(mend(name, among: devices))")
    }

    private func mend(_ name: String, among names: [String]) -> String {
        Words.nearest(name, among: names).map { "did you mean \($0)?" }
            ?? "write one of \(names.joined(separator: ", "))"
    }

    func checkWorkers(_ count: Int, _ field: Field) {
        let rings = count * interfaces.count
        if count > Limits.workers {
            field.error(Limits.worker.refusal(of: count))
        } else if rings > Limits.rings {
            field.error(Limits.ring.refusal(of: rings))
        }
    }
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
            guard !host.isEmpty, Words.isName(host, with: "-.") else { return nil }
        }
        self.init(host: host, port: UInt16(port))
    }
}
