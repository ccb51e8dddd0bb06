// Keys that are read and checked but not yet acted on. Setting one is an error, so that
// nothing is ignored in silence; a version that acts on a key deletes its line here.

extension Loader {
    /// A key's path, the value that changes nothing, and the uses that do otherwise.
    private typealias Key = (
        noEffect: String, uses: @Sendable (Configuration) -> [(path: String, value: String)]
    )

    private static let unsupported: [Key] = [
        ("off", { use("limits.packetsPerSecond", $0.limits.packetsPerSecond) }),
        ("off", { use("limits.perRemote", $0.limits.perRemote) }),
    ]

    private static func use<T>(_ path: String, _ value: T?) -> [(path: String, value: String)] {
        value.map { [(path, "\($0)")] } ?? []
    }

    func reportUnsupported(probes: Field?) {
        for key in Self.unsupported {
            for use in key.uses(configuration) {
                guard let position = reader.positions[use.path] else { continue }
                report(use.path, use.value, noEffect: key.noEffect, at: position)
            }
        }
        // What a probe is made of is open yet, so that only its absence can be read.
        if let probes, let items = reader.items(probes, example: "[]"), !items.isEmpty {
            report("probes", "a list", noEffect: "[]", at: probes.position)
        }
    }

    private func report(_ path: String, _ value: String, noEffect: String, at position: Position) {
        reader.report.error(
            position,
            "\(path): \(value) is not supported by this version; "
                + "remove it or set it to \(noEffect)")
    }
}
