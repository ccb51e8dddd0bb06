// Many flows over two workers: every packet once, in the order of its flow, and whole.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct FlowTests {
        @Test(
            arguments: [
                (Mode.ipip, 1), (.ip6ip, 64), (.ipip6, 64), (.ip6ip6, 1024), (.ipip, 1024),
            ])
        func packetsOfAFlowStayInOrder(mode: Mode, flows: Int) throws {
            try Rig.with { rig in
                let daemon = try Daemon.ready(rig, Setup(workers: 2))
                try rig.run(.pod, Tools.lab, "sink", "attach", "eth0")
                try rig.withoutRingDrops(daemon, rate: 100_000) { rate, before in
                    try rig.run(.pod, Tools.lab, "sink", "reset", "eth0")
                    let sent = try rig.lab(
                        .balancer, "generate", "back", "--mode", mode.rawValue, "--flows",
                        "\(flows)", "--rate", "\(rate)", "--seconds", "2")
                    #expect(sent["sent"] > 10_000)
                    try rig.expectInSink(sent["sent"], daemon, before)
                }
                let status = try daemon.status()
                #expect(Array(status.injectedByMode.keys) == [mode.rawValue])
                let busy = status.workers.filter { $0.received > 0 }
                #expect(busy.count == (flows == 1 ? 1 : 2), "one flow has one worker")
                try daemon.expectConservation()
            }
        }
    }
}

extension Rig {
    /// Runs a load, and again at half the rate where the host was too busy for it: frames that
    /// the kernel had no room for were never received, and say nothing about forwarding.
    func withoutRingDrops(
        _ daemon: Daemon, rate: Int, _ load: (Int, Status) throws -> Void
    ) throws {
        var rate = rate
        while true {
            let before = try daemon.status()
            try load(rate, before)
            let lost =
                try daemon.status().packets["ringDropped", default: 0]
                - before.packets["ringDropped", default: 0]
            if lost == 0 { return }
            rate /= 2
            guard rate >= 10_000 else {
                throw Failure("the ring ran over even at \(2 * rate) packets a second")
            }
        }
    }

    /// What the sink in the pod counts once so many packets came, or after 5 s: behind the TUN they may still
    /// stand in a queue of the kernel.
    func sink(awaiting count: Int) throws -> Answer {
        var counted = try lab(.pod, "sink", "read", "eth0")
        _ = try? eventually("the sink", 5) {
            counted = try lab(.pod, "sink", "read", "eth0")
            return counted["packets"] >= count
        }
        return counted
    }

    /// The sink in the pod has all that the generator sent but for what the ring had no room
    /// for: once, in order and whole. `before` is the daemon's status before.
    func expectInSink(_ sent: Int, _ daemon: Daemon, _ before: Status) throws {
        func grown(_ name: String) throws -> Int {
            try daemon.status().packets[name, default: 0] - before.packets[name, default: 0]
        }
        try eventually("\(sent) packets to be taken") {
            try grown("received") + grown("ringDropped") >= sent
        }
        let lost = try grown("ringDropped")
        let counted = try sink(awaiting: sent - lost)
        #expect(counted["packets"] == sent - lost, "\(counted), \(lost) of \(sent) lost")
        // A flow whose last packets were lost skips none.
        #expect(counted["skipped"] <= lost, "\(counted), \(lost) of \(sent) lost")
        for fault in ["out_of_order", "duplicates", "wrong_length", "unknown_flow"] {
            #expect(counted[fault] == 0, "\(fault): \(counted)")
        }
    }
}
