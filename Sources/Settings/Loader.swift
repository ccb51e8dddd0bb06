// Loader, the state of one loading: the names that keys refer to, and where keys stand.

import Forwarding

/// A value that is wrong keeps its default, so that the checks of keys together can go on.
final class Loader {
    let report: Report
    private let hostHas: ((String) -> Bool)?
    /// Where every key that was read stands, by its path.
    private(set) var positions: [String: Position] = [:]

    // Names that keys can refer to. Not all of them are known when one is wrong or a file is not YAML.
    private(set) var interfaces: [String] = []
    private(set) var interfacePositions: [String: Position] = [:]
    private(set) var knowsInterfaces = false
    private var devices = Configuration().devices.map(\.name)
    private lazy var deviceNames = Set(devices)
    var knowsDevices = false

    /// The mappings of the tunnels and of the rewrite rules, in the order of the configuration.
    private(set) var tunnels: [Section] = []
    var rewrites: [Section] = []
    /// The mappings of a file of targets.
    var realservers: [Section] = []
    var services: [Section] = []
    /// Where each destination of the tunnel stands that is being read; its device and MSS do not count.
    var destinations: [Configuration.Destination: Position] = [:]

    init(report: Report, hostHas: ((String) -> Bool)? = nil) {
        self.report = report
        self.hostHas = hostHas
    }

    /// Remembers where the keys of a section stand, by the paths that messages show.
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
        // A file that is not YAML may name others.
        knowsInterfaces =
            !report.isPartial && items.count <= Limits.interfaces.value
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
        // A device whose name is wrong may be the one that a destination refers to.
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

    /// A warning, not an error: the override has no effect here, but may be meant for another host.
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
        field.error("\"\(name)\" is not among interfaces; \(remedy(name, among: interfaces))")
    }

    func checkDevice(_ name: String, _ field: Field) {
        guard knowsDevices, !deviceNames.contains(name) else { return }
        field.error("\"\(name)\" is not among devices; \(remedy(name, among: devices))")
    }

    private func remedy(_ name: String, among names: [String]) -> String {
        ValueSyntax.nearest(name, among: names).map { "did you mean \($0)?" }
            ?? "write one of \(names.joined(separator: ", "))"
    }

    func checkWorkers(_ count: Int, _ field: Field) {
        let rings = count * interfaces.count
        if count > Limits.workers.value {
            field.error(Limits.workers.refusal(of: count))
        } else if rings > Limits.rings.value {
            field.error(Limits.rings.refusal(of: rings))
        }
    }
}
