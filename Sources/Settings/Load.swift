// Loads a configuration from texts: read, merge, check each key, check keys together.

import Forwarding
import IP

extension Configuration {
    /// Reads, merges and checks the texts of configuration files.
    ///
    /// The first file is the main one. The others are laid over it in the order given: mappings merge
    /// key by key, scalars and plain lists are replaced, `tunnels` and `devices` merge by `name` (a new
    /// name is appended), and the `destinations` of a tunnel are appended. One file may give a name once.
    ///
    /// - Parameters:
    ///   - files: the name of each, as messages show it, and its text in YAML.
    ///   - hostHas: whether this host has an interface of that name; one that it lacks gives a warning.
    ///     nil: not checked.
    ///   - hostProblems: errors that this host's links give, by the name of the interface.
    /// - Returns: every problem, each at the line and column of its value, in the order of files and
    ///   lines; and a configuration unless one of the problems is an error. No key is reported as missing
    ///   when a text is not YAML.
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
}

extension Loader {
    func load(_ root: Value) -> Configuration {
        var configuration = Configuration()
        let keys = Configuration.keys
        let names = Key.groups(keys, 0).map(\.name)
        guard let top = Field(path: "", value: root, loader: self).section(names) else {
            return configuration
        }
        knowsDevices = !report.isPartial && top["devices"] == nil
        // Keys that others refer to are read first.
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
}
