// The configuration as it lies on disk: the file, and the drop-ins beside it.

import Foundation
import LinuxIO
import Settings

public enum ConfigurationFiles {
    public static let defaultPath = "/etc/shuck/shuck.yaml"

    /// Reads `path`, then `*.yaml` of the directory of the same name with `.d` for its
    /// extension, in order of name (`/etc/shuck/shuck.yaml`, `/etc/shuck/shuck.d/`).
    /// - Parameters: as `Configuration.load` takes them.
    public static func load(
        _ path: String, hostHas: ((String) -> Bool)? = nil,
        hostProblems: ((Configuration) -> [(name: String, text: String)])? = nil
    ) -> (configuration: Configuration?, problems: [Problem]) {
        do throws(Problem) {
            return Configuration.load(
                files: try read(path), hostHas: hostHas, hostProblems: hostProblems)
        } catch {
            return (nil, [error])
        }
    }

    /// `load`, with the texts; none when they could not be read.
    static func loadWithTexts(
        _ path: String
    ) -> (files: [HandOver.File], configuration: Configuration?, problems: [Problem]) {
        do throws(Problem) {
            let files = try read(path)
            let (configuration, problems) = Configuration.load(files: files)
            return (files.map(HandOver.File.init), configuration, problems)
        } catch {
            return ([], nil, [error])
        }
    }

    /// The texts that `load` reads.
    public static func read(_ path: String) throws(Problem) -> [(name: String, text: String)] {
        try ([path] + dropIns(of: path)).map { (name) throws(Problem) in
            do throws(Unreadable) {
                return (name, try text(of: name))
            } catch {
                throw Problem(file: name, line: 1, column: 1, severity: .error, message: error.message)
            }
        }
    }

    /// Of each file.
    private static let bytesMax = 64 << 20

    private struct Unreadable: Error { let message: String }

    private static func text(of path: String) throws(Unreadable) -> String {
        // A pipe is read like a file. A directory opens, but cannot be read.
        let (bytes, failure) = readFile(path, limit: bytesMax)
        if let failure {
            let cause =
                switch failure {
                case ENOENT, ENOTDIR: "there is no such file; give one with --config FILE"
                case EACCES, EPERM:
                    "this user may not read it: run as root, or give read permission (ls -l \(path))"
                case EFBIG: "it has more than \(bytesMax >> 20) MiB: no configuration is that long"
                case ETIMEDOUT: "it is a pipe to which nothing writes: put a file in its place"
                default: "it cannot be read: \(String(cString: strerror(failure)))"
                }
            throw Unreadable(message: cause)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Unreadable(message: "it is not UTF-8 text: save it as UTF-8 (iconv -t UTF-8)")
        }
        return text
    }

    public static func dropInFolder(of path: String) -> String {
        (path as NSString).deletingPathExtension + ".d"
    }

    private static func dropIns(of path: String) -> [String] {
        let directory = dropInFolder(of: path)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".yaml") && !$0.hasPrefix(".") }.sorted()
            .map { directory + "/" + $0 }
    }

    /// `load`, with what this host's links say of the interfaces.
    public static func loadForHost(
        _ path: String
    ) -> (configuration: Configuration?, problems: [Problem]) {
        guard let links = try? NetlinkSocket().links() else { return load(path) }
        let names = Set(links.map(\.name) + links.flatMap(\.otherNames))
        return load(path, hostHas: names.contains) { $0.doubleInterfaces(links) }
    }
}
