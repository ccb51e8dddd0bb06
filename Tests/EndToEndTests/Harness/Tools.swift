// What the tests need of this host, and where the programs under test are.

import Foundation
import Testing

enum Tools {
    /// The package's directory.
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path(percentEncoded: false)
        .trimmingSuffix("/")

    static let lab = ProcessInfo.processInfo.environment["SHUCK_LAB"] ?? root + "/.build/lab/lab"

    /// The build puts it beside the tests.
    static let shuck: String = {
        let tests = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let directory = ((tests ?? CommandLine.arguments[0]) as NSString).deletingLastPathComponent
        return directory + "/shuck"
    }()

    private static let programs = [
        "ip", "tc", "ethtool", "tcpdump", "nft", "ping", "setpriv", "unshare", "nsenter", "mount", "sysctl",
        "traceroute", "tshark", "prlimit",
    ]

    /// Why the tests cannot run here; nil when they can. Asked in every run of any test, so that
    /// it only looks.
    static let missing: String? = {
        if geteuid() != 0 { return "network namespaces need root" }
        if !FileManager.default.fileExists(atPath: "/dev/net/tun") {
            return "there is no /dev/net/tun: modprobe tun"
        }
        if !FileManager.default.isExecutableFile(atPath: shuck) { return "no \(shuck)" }
        if !FileManager.default.isExecutableFile(atPath: lab) {
            return "no \(lab): tools/lab/build makes it"
        }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin"
        let directories = path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]
        for program in programs
        where !directories.contains(where: {
            FileManager.default.isExecutableFile(atPath: "\($0)/\(program)")
        }) { return "the program \(program) is not installed" }
        if ProcessInfo.processInfo.activeProcessorCount < 2 { return "two CPUs are needed" }
        return nil
    }()
}

extension String {
    fileprivate func trimmingSuffix(_ suffix: String) -> String {
        hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
    }
}

/// The daemon with real namespaces, devices and traffic: one test at a time, for they share two
/// CPUs with the traffic that they send.
@Suite(
    .serialized,
    .enabled(if: Tools.missing == nil, Comment(rawValue: Tools.missing ?? "all is there")))
enum EndToEnd {}
