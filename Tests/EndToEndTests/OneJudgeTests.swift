// A frame has one judge: a second shuck, another program's device, and interfaces that are the same.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct OneJudgeTests {
        /// A configuration that shares nothing with the first one but the interface.
        private static func second(_ rig: Rig, _ interface: String = "eth0", more: [String] = []) throws
            -> String
        {
            let path = rig.directory + "/second.yaml"
            let text = Setup(
                interfaces: [interface], more: ["devices: [{name: shuck1}]"] + more
            ).text(socket: rig.directory + "/second.sock")
            try text.write(toFile: path, atomically: false, encoding: .utf8)
            return path
        }

        /// Injected packets arrive once: a datagram to each mode's pod.
        private static func expectOnce(_ rig: Rig) throws {
            let arrived = try Capture(rig, .pod, "eth0", "udp")
            let packets = Mode.allCases.map {
                IPPacket.datagram($0.innerIsIPv4 ? Rig.client4 : Rig.client6, $0.vip).wrapped($0)
            }
            try rig.send(packets)
            try arrived.wait(for: packets.count)
            // What is sent last proves that no copy is still on its way.
            try rig.send([IPPacket.datagram(Rig.client4, Mode.ipip.vip)])
            try arrived.wait(for: packets.count + 1)
            #expect(arrived.packets.count == packets.count + 1, "\(arrived.packets)")
        }

        /// As the old and the new pod of a rolling update: own files, own processes, one network namespace.
        @Test(arguments: [[], ["unshare", "--pid", "--fork", "--mount-proc"]])
        func aSecondOneIsRefusedAndToldWhoIsThere(_ wrapper: [String]) throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig)
                let path = try Self.second(rig)
                let refused = try rig.attempt(.node, wrapper + [Tools.shuck, "run", "--config", path])
                #expect(refused.status == 3, "\(refused)")
                #expect(
                    refused.errors.contains(
                        "another shuck takes its frames: process \(daemon.process.processID)"),
                    "\(refused.errors)")
                #expect(refused.errors.contains("another pid namespace") == !wrapper.isEmpty)
                #expect(refused.errors.contains(", host "))
                #expect(try !rig.hasLink(.node, "shuck1"))
                try Self.expectOnce(rig)
                try daemon.expectConservation()
                // Its end frees the interface, however it comes.
                daemon.process.signal(SIGKILL)
                try daemon.process.wait()
                let next = try Daemon(rig, Setup(more: ["devices: [{name: shuck1}]"]), name: "third")
                try next.waitUntilReady()
                #expect(try next.stop().status == 0)
            }
        }

        @Test func aReloadThatWouldJudgeTwiceIsRefused() throws {
            try Rig.with { rig in
                let first = try Daemon.ready(rig)
                let devices = ["devices: [{name: shuck1}]"]
                let other = try Daemon(rig, Setup(interfaces: ["cali0"], more: devices), name: "other")
                try other.waitUntilReady()
                try other.configure(Setup(interfaces: ["cali0", "eth0"], more: devices))
                let answer = try other.reload()
                #expect(answer.status == 409)
                #expect(answer.body.contains("another shuck takes its frames"), "\(answer.body)")
                #expect(other.isReady && first.isReady)
                // A shadow injects nothing, so it may look on; but it cannot become active there.
                let shadow = Setup(
                    interfaces: ["cali0", "eth0"], more: devices + ["mode: shadow"])
                try other.configure(shadow)
                #expect(try other.reload().status == 200)
                try other.configure(Setup(interfaces: ["cali0", "eth0"], more: devices))
                #expect(try other.reload().status == 409)
                try Self.expectOnce(rig)
                #expect(try first.stop().status == 0)
                #expect(try other.reload().status == 200)
            }
        }

        @Test func anotherProgramsDeviceIsNotJoined() throws {
            try Rig.with { rig in
                try rig.run(
                    .node, "ip", "tuntap", "add", "shuck0", "mode", "tun", "multi_queue", "vnet_hdr")
                let daemon = try Daemon(rig)
                let ended = try daemon.process.wait()
                #expect(ended.status == 3)
                #expect(ended.errors.contains("an interface shuck0 is already there"), "\(ended.errors)")
                #expect(ended.errors.contains("ip link del shuck0"), "\(ended.errors)")
                #expect(try rig.hasLink(.node, "shuck0"))
            }
        }

        @Test func stackedInterfacesAreRefusedAndNamed() throws {
            try Rig.with { rig in
                let made = try rig.attempt(.node, ["ip", "link", "add", "br0", "type", "bridge"])
                guard made.status == 0 else { return print("skipped: no bridges: \(made.errors)") }
                try rig.run(.node, "ip", "link", "set", "br0", "up")
                let both = Setup(interfaces: ["eth0", "br0"])
                let daemon = try Daemon.ready(rig, both)
                // Stacked while it runs: named, and not ready.
                try rig.run(.node, "ip", "link", "set", "eth0", "master", "br0")
                let text = "eth0 and br0 see the same frames"
                try eventually("its mention") {
                    AdminClient.ask(daemon.socket, "GET", "/readyz")?.body.contains(text) == true
                }
                let answer = try daemon.reload()
                #expect(answer.status == 409)
                #expect(answer.body.contains(text), "\(answer.body)")
                let check = try rig.attempt(
                    .node, [Tools.shuck, "check", "--config", daemon.configurationPath])
                #expect(check.status == 1)
                #expect(
                    check.output.contains("shuck.yaml:1:22: interfaces: \(text)"), "\(check.output)")
                try rig.run(.node, "ip", "link", "set", "eth0", "nomaster")
                try daemon.waitUntilReady()
                #expect(try daemon.stop().status == 0)
                try rig.run(.node, "ip", "link", "set", "eth0", "master", "br0")
                let ended = try Daemon(rig, both).process.wait()
                #expect(ended.status == 3)
                #expect(ended.errors.contains(text), "\(ended.errors)")
            }
        }
    }
}
