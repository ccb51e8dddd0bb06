// Loads a file of probe targets: each key, then the keys together.

import Forwarding
import IP
import Probing

extension ProbeTargets {
    /// Reads a file of targets, in YAML.
    /// - Returns: every problem with its place; and the targets unless one is an error.
    public static func load(
        name: String, text: String
    ) -> (targets: ProbeTargets?, problems: [Problem]) {
        let report = Report(fileNames: [name])
        let keys = "outerSources, innerSources, realservers and services"
        guard let value = Document.read(text, file: 0, report: report) else {
            if !report.hasErrors {
                report.error(Position(file: 0, line: 1, column: 1), "the file is empty; write \(keys)")
            }
            return (nil, report.problems)
        }
        guard case .mapping = value.content else {
            report.error(value.position, "the file is not a mapping; write \(keys)")
            return (nil, report.problems)
        }
        let loader = Loader(report: report)
        var targets = ProbeTargets()
        let names = Key.groups(Self.keys, 0).map(\.name)
        if let top = Field(path: "", value: value, loader: loader).section(names) {
            loader.read(Self.keys, of: top, into: &targets)
        }
        if !report.hasErrors { loader.check(targets) }
        return (report.hasErrors ? nil : targets, report.problems)
    }
}

extension Loader {
    /// Names that are not there, addresses that no tuple would ask, and sources of one family twice.
    fileprivate func check(_ targets: ProbeTargets) {
        let names = targets.realservers.map(\.name)
        for service in services {
            let isEmpty = service["ports"]?.items(example: "[443]")?.isEmpty ?? true
            if isEmpty, service["protocol"]?.text != ProbeProtocol.icmp.rawValue {
                report.error(
                    service["ports"]?.position ?? service.position,
                    "\(service.path(of: "ports")): missing; write ports: [443], or protocol: icmp")
            }
            for item in service["realservers"]?.items(example: "[node1]") ?? [] {
                guard let name = item.text, !names.contains(name) else { continue }
                let near = ValueSyntax.nearest(name, among: names).map { "did you mean \($0)?" }
                item.error(
                    "\"\(name)\" is not among realservers; "
                        + (near ?? "they are \(names.joined(separator: ", "))"))
            }
            checkFamilies(service, targets.innerSources, "innerSources", targets.modes.map(\.innerIsIPv4))
        }
        for realserver in realservers {
            checkFamilies(realserver, targets.outerSources, "outerSources", targets.modes.map(\.outerIsIPv4))
        }
        guard !report.hasErrors, let position = positions["services"] else { return }
        let count = targets.tupleCount
        if count == 0 {
            report.error(
                position,
                "services: none can be asked in these modes; add modes, or addresses of their family")
        } else if count > ProbeTargets.tuplesMax {
            report.error(
                position,
                "services: they make \(count) tuples of service, port and realserver, more than "
                    + "\(ProbeTargets.tuplesMax); split the file")
        }
    }

    /// An address that no source goes with would be left out in silence.
    private func checkFamilies(
        _ section: Section, _ sources: [Address], _ key: String, _ asked: [Bool]
    ) {
        for item in section["addresses"]?.items(example: "[192.0.2.1]") ?? [] {
            guard let address = item.text.flatMap({ Address($0) }), asked.contains(address.isIPv4),
                !sources.contains(where: { $0.isIPv4 == address.isIPv4 })
            else { continue }
            let family = address.isIPv4 ? "IPv4" : "IPv6"
            item.error(
                "\(key) has no \(family) address to ask \(address.text) from; add one, or leave this out")
        }
    }
}
