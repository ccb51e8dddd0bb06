// More devices and interfaces than most nodes have, and a limit of open files that is too small.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ScaleTests {
        /// Reloads to 100 devices and 70 interfaces: the last device takes what came by the last interface.
        @Test func aHundredDevicesAndSeventyInterfacesAreTakenAtOnce() throws {
            try Rig.with { rig in
                let (devices, interfaces) = (100, 70)
                let last = interfaces - 1
                let links =
                    (0..<last).map { "link add e\($0) type veth peer name f\($0)\n" }.joined()
                    + "link add e\(last) address 02:00:00:00:02:02 type veth peer name more netns "
                    + "\(rig.name)-balancer\n"
                try rig.ip(.node, links + (0..<interfaces).map { "link set e\($0) up\n" }.joined())
                try rig.ip(.balancer, "link set more up\n")
                var setup = Setup(more: ["reversePath: {mode: \"off\"}"])
                let daemon = try Daemon.ready(rig, setup)
                setup.interfaces += (0..<interfaces).map { "e\($0)" }
                setup.more += ["devices:"] + (0..<devices).map { "  - {name: shuck\($0)}" }
                let text = setup.text(socket: daemon.socket).replacingOccurrences(
                    of: "- prefix: \"\(Mode.ipip.vip)\"",
                    with: "- {prefix: \(Mode.ipip.vip), device: shuck\(devices - 1)}")
                try daemon.configure(text: text)
                let answer = try daemon.reload()
                #expect(answer.status == 200, "\(answer.body)")
                try daemon.waitUntilReady()
                let status = try daemon.status()
                #expect(status.devices.count == devices)
                #expect(status.devices.allSatisfy { $0.state == "up" })
                #expect(status.interfaces.allSatisfy { $0.state == "receiving" })

                let arrived = try Capture(rig, .pod, "eth0", "udp port \(IPPacket.port)")
                try rig.send(
                    [IPPacket.datagram(Rig.client4, Mode.ipip.vip).wrapped(.ipip)], through: "more")
                try arrived.wait(for: 1)
                try daemon.wait(received: 1)
                #expect(
                    try daemon.metrics().sum(
                        "shuck_injected_packets_total", "device=\"shuck\(devices - 1)\"") == 1)
                try daemon.expectConservation()
                // And back, with those that were there all the time.
                try daemon.configure(Setup())
                #expect(try daemon.reload().status == 200)
                try rig.waitForEnd(of: "shuck\(devices - 1)", .node)
                #expect(try daemon.stop().status == 0)
            }
        }

        @Test func theLimitOfOpenFilesIsRaised() throws {
            try Rig.with { rig in
                let wrapper = ["sh", "-c", "ulimit -Sn 64; exec \"$@\"", "sh"]
                let daemon = try Daemon(rig, wrapper: wrapper)
                try daemon.waitUntilReady()
                let limits = try String(
                    contentsOfFile: "/proc/\(try daemon.status().processID)/limits", encoding: .utf8)
                let line = try #require(
                    limits.split(separator: "\n").first { $0.hasPrefix("Max open files") })
                let words = line.split(separator: " ")
                #expect(words[3] == words[4], "\(line)")
            }
        }

        @Test func tooFewFilesAreSaidBeforeAnythingIsOpened() throws {
            try Rig.with { rig in
                let wrapper = ["sh", "-c", "ulimit -n 200; exec \"$@\"", "sh"]
                let daemon = try Daemon(rig, wrapper: wrapper)
                let result = try daemon.process.wait(seconds: 20)
                #expect(result.status == 3)
                for word in ["1 devices", "274", "200", "LimitNOFILE=274"] {
                    #expect(result.errors.contains(word), "\(word): \(result.errors)")
                }
                #expect(try !rig.hasLink(.node, "shuck0"))
            }
        }
    }
}
