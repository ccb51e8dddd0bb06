// The configuration as it lies on disk: the file, and the drop-ins beside it.

import Foundation
import Settings

public enum ConfigurationFiles {
    public static let defaultPath = "/etc/shuck/shuck.yaml"

    /// Reads `path`, then `*.yaml` of the directory of the same name with `.d` for its
    /// extension, in order of name (`/etc/shuck/shuck.yaml`, `/etc/shuck/shuck.d/`).
    /// - Parameter hostHas: as `Configuration.load` takes it.
    public static func load(
        _ path: String, hostHas: ((String) -> Bool)? = nil
    ) -> (configuration: Configuration?, problems: [Problem]) {
        var files: [(name: String, text: String)] = []
        for name in [path] + dropIns(of: path) {
            do {
                files.append((name, try String(contentsOfFile: name, encoding: .utf8)))
            } catch {
                let isThere = FileManager.default.fileExists(atPath: name)
                return (
                    nil,
                    [
                        Problem(
                            file: name, line: 1, column: 1, severity: .error,
                            message: isThere
                                ? "cannot be read as UTF-8 text: \(error.localizedDescription)"
                                : "there is no such file; give one with --config FILE")
                    ]
                )
            }
        }
        return Configuration.load(files: files, hostHas: hostHas)
    }

    private static func dropIns(of path: String) -> [String] {
        let directory = (path as NSString).deletingPathExtension + ".d"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".yaml") && !$0.hasPrefix(".") }.sorted()
            .map { directory + "/" + $0 }
    }
}
