// What shuck needs and does not get: exit code 3, and one sentence that says how to mend it.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct RefusalTests {
        /// Runs one that must refuse, and looks at what it says and leaves.
        private static func expectRefusal(
            _ rig: Rig, _ setup: Setup = Setup(), wrapper: [String] = [], says words: [String],
            sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let daemon = try Daemon(rig, setup, wrapper: wrapper)
            let result = try daemon.process.wait(seconds: 20)
            #expect(result.status == 3, "\(result.errors)", sourceLocation: sourceLocation)
            let lines = result.errors.split(separator: "\n")
            #expect(lines.count == 1, "\(result.errors)", sourceLocation: sourceLocation)
            for word in words {
                #expect(
                    result.errors.contains(word), "\(word): \(result.errors)",
                    sourceLocation: sourceLocation)
            }
            #expect(try !rig.hasLink(.node, "shuck0"), sourceLocation: sourceLocation)
            #expect(
                !FileManager.default.fileExists(atPath: daemon.socket),
                sourceLocation: sourceLocation)
        }

        @Test func forwardingIsOff() throws {
            try Rig.with { rig in
                try rig.set(.node, "net.ipv4.ip_forward", "0")
                try Self.expectRefusal(rig, says: ["sysctl -w net.ipv4.ip_forward=1"])
                try rig.set(.node, "net.ipv4.ip_forward", "1")
                try rig.set(.node, "net.ipv6.conf.all.forwarding", "0")
                try Self.expectRefusal(rig, says: ["sysctl -w net.ipv6.conf.all.forwarding=1"])
            }
        }

        @Test(arguments: ["net_raw", "net_admin"])
        func aCapabilityIsMissing(capability: String) throws {
            try Rig.with { rig in
                try Self.expectRefusal(
                    rig,
                    wrapper: [
                        "setpriv", "--inh-caps=-\(capability)", "--bounding-set=-\(capability)",
                    ],
                    says: ["CAP_\(capability.uppercased())", "setcap", "AmbientCapabilities="])
            }
        }

        @Test func thereIsNoTUN() throws {
            try Rig.with { rig in
                let empty = rig.directory + "/empty"
                try FileManager.default.createDirectory(
                    atPath: empty, withIntermediateDirectories: true)
                try Self.expectRefusal(
                    rig,
                    wrapper: [
                        "unshare", "--mount", "sh", "-c",
                        "mount --bind \"$0\" /dev/net && exec \"$@\"", empty,
                    ],
                    says: ["/dev/net/tun", "modprobe tun"])
            }
        }

        @Test func theInterfaceIsNotEthernet() throws {
            try Rig.with { rig in
                try rig.ip(.node, "tuntap add mode tun name plain0\n")
                try Self.expectRefusal(
                    rig, Setup(interfaces: ["plain0"]), says: ["plain0", "no Ethernet device"])
            }
        }

        @Test func theNameOfTheDeviceIsTaken() throws {
            try Rig.with { rig in
                try rig.ip(.node, "link add shuck0 type veth peer name other0\n")
                let daemon = try Daemon(rig)
                let result = try daemon.process.wait(seconds: 20)
                #expect(result.status == 3)
                #expect(result.errors.contains("ip link del shuck0"), "\(result.errors)")
                let left = try rig.run(.node, "ip", "-details", "link", "show", "shuck0")
                #expect(left.contains("veth"), "\(left)")
            }
        }

        @Test func theConfigurationIsMissing() throws {
            try Rig.with { rig in
                let path = rig.directory + "/none.yaml"
                let result = try rig.attempt(.node, [Tools.shuck, "run", "--config", path])
                #expect(result.status == 1)
                #expect(result.errors.hasPrefix("\(path):1:1: "), "\(result.errors)")
                #expect(result.errors.contains("--config"))
            }
        }

        @Test func theConfigurationIsBad() throws {
            try Rig.with { rig in
                let path = rig.directory + "/bad.yaml"
                let text = "interfaces: [eth0]\ntunnels:\n  - {name: a, local: [1.2.3.4]}\n"
                try text.write(toFile: path, atomically: false, encoding: .utf8)
                let result = try rig.attempt(.node, [Tools.shuck, "run", "--config", path])
                #expect(result.status == 1)
                #expect(result.errors.hasPrefix("\(path):3:"), "\(result.errors)")
                #expect(try !rig.hasLink(.node, "shuck0"))
            }
        }
    }
}
