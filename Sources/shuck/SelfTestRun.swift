// The tests of `shuck selftest`, in their order, and what each does.

import Daemon
import Forwarding
import Foundation
import IP
import LinuxIO
import Probing
import SelfTesting
import Settings

/// A test of the list.
struct SelfTest {
    let name: String
    /// Throws `Skipped` where this host cannot do it.
    let run: (SelfTestLab, inout Checks) throws -> Void

    struct Skipped: Error { let reason: String }

    /// All of them.
    static func all(hasIPv6: Bool) -> [SelfTest] {
        let needsIPv6 = "this kernel has no IPv6"
        let modes = Mode.allCases.filter { hasIPv6 || $0 == .ipip }
        func each(_ what: String, _ run: @escaping (SelfTestLab, Mode, inout Checks) throws -> Void)
            -> [SelfTest]
        {
            Mode.allCases.map { mode in
                SelfTest(name: "\(what) \(mode.name)") { lab, checks in
                    guard modes.contains(mode) else { throw Skipped(reason: needsIPv6) }
                    try run(lab, mode, &checks)
                }
            }
        }
        return each("tcp", connection) + each("udp", datagrams) + each("icmp", echoes)
            + PacketTest.all(modes).map { test in
                SelfTest(name: test.name) { lab, checks in try packets(test, lab, &checks) }
            } + each("mss answers", answeredSegmentSize) + each("path-mtu", pathMTU)
            + [
                SelfTest(name: "not-ours", run: notOurs),
                SelfTest(name: "probe") { try probe($0, modes, &$1) },
                SelfTest(name: "reload") { try reload($0, modes, &$1) },
                SelfTest(name: "upgrade") { try upgrade($0, modes, &$1) },
                SelfTest(name: "engine killed") { try killEngine($0, modes, &$1) },
            ]
    }

    /// Those on a host that has everything.
    static var names: [String] { all(hasIPv6: true).map(\.name) }

    private static var joining: NodeConfiguration {
        var configuration = NodeConfiguration()
        configuration.coalesces = true
        return configuration
    }

    // MARK: Traffic

    /// Runs traffic, and expects shuck to have injected it.
    private static func expectMode(
        _ mode: Mode, _ lab: SelfTestLab, _ checks: inout Checks, _ body: (inout Checks) throws -> Void
    ) throws {
        try lab.configure(joining)
        let before = try lab.status()
        try body(&checks)
        let after = try lab.status()
        // The end of an earlier connection may still come in another mode.
        checks.expect(
            after.injectedByMode[mode.name] ?? 0 > before.injectedByMode[mode.name] ?? 0,
            "\(mode.name): shuck injected nothing in this mode")
        checks.expect(
            after.packets.dropped == before.packets.dropped,
            "\(mode.name): shuck dropped \(after.packets.dropped &- before.packets.dropped) packets")
    }

    private static func connection(_ lab: SelfTestLab, _ mode: Mode, _ checks: inout Checks) throws {
        try expectMode(mode, lab, &checks) { try lab.expectConnection(mode, &$0) }
    }

    private static func datagrams(_ lab: SelfTestLab, _ mode: Mode, _ checks: inout Checks) throws {
        try expectMode(mode, lab, &checks) { try lab.expectDatagrams(mode, &$0) }
    }

    private static func echoes(_ lab: SelfTestLab, _ mode: Mode, _ checks: inout Checks) throws {
        try expectMode(mode, lab, &checks) {
            try lab.expectEchoes(TestNetwork.service(mode), mode.name, &$0)
        }
    }

    /// What is not encapsulated stays the kernel's.
    private static func notOurs(_ lab: SelfTestLab, _ checks: inout Checks) throws {
        for node in TestNetwork.node where node.isIPv4 || lab.hasIPv6 {
            try lab.expectEchoes(node, "to the node itself", &checks)
        }
    }

    /// Runs `shuck probe` on the balancer.
    private static func probe(_ lab: SelfTestLab, _ modes: [Mode], _ checks: inout Checks) throws {
        try lab.configure(joining)
        for mode in modes {
            let listener = try lab.listener(mode)
            defer { withExtendedLifetime(listener) {} }
            let addresses = [
                ("--outer-src", TestNetwork.of(TestNetwork.balancer, isIPv4: mode.outerIsIPv4)),
                ("--outer-dst", TestNetwork.of(TestNetwork.node, isIPv4: mode.outerIsIPv4)),
                ("--inner-src", TestNetwork.of(TestNetwork.client, isIPv4: mode.innerIsIPv4)),
                ("--inner-dst", TestNetwork.service(mode)),
            ]
            let words = ["probe", "--port", "80", "--count", "3", "--interval", "0.01"]
            let process = try lab.start(
                verb: words + addresses.flatMap { [$0, $1.text] }, in: .balancer)
            let isOver = try lab.wait(seconds: 10) { !process.isRunning }
            checks.expect(
                isOver && process.status() == 0, "\(mode.name): shuck probe: \(lab.printed)")
        }
    }

    // MARK: Packets

    private static func packets(_ test: PacketTest, _ lab: SelfTestLab, _ checks: inout Checks) throws {
        try lab.configure(test.configuration)
        let before = try lab.status().dropsByReason
        lab.forget()
        for exchange in test.exchanges {
            for packet in exchange.packets {
                let error = lab.send(packet)
                guard error != 0 else { continue }
                checks.expect(false, "\(exchange.what): it was not sent: \(systemMessage(error))")
            }
        }
        var arrived: [[UInt8]] = []
        _ = try lab.wait(seconds: 2) {
            lab.pod.receive { arrived.append(Array($0)) }
            return test.isOver(arrived)
        }
        // They are counted after the packets behind them were written.
        func drops() throws -> [String: Int] {
            let now = try lab.status().dropsByReason
            return now.mapValues(Int.init).merging(before.mapValues { -Int($0) }, uniquingKeysWith: +)
                .filter { $1 != 0 }
        }
        let expected = test.drops.values.reduce(0, +)
        _ = try lab.wait(seconds: 1) { try drops().values.reduce(0, +) >= expected }
        let answers = lab.answers().filter { answer in
            if case .error(let report) = answer.kind { report.isAboutOuter } else { false }
        }
        checks.add(
            test.checks,
            failures: test.failures(arrived: arrived, drops: try drops(), answers: answers.count))
    }

    // MARK: Sizes

    /// The MSS that the pod answers is what limits the client: a rule of nftables clamps it.
    private static func answeredSegmentSize(
        _ lab: SelfTestLab, _ mode: Mode, _ checks: inout Checks
    ) throws {
        var configuration = NodeConfiguration()
        configuration.clampsReplies = true
        // Else the rule leaves room for the longest outer header that the tunnel takes.
        configuration.modes = [mode]
        configuration.services = [mode]
        do {
            _ = try lab.inside(.node) { try FilterContext.ruleset() }
        } catch let error as SystemError {
            throw Skipped(reason: "\(error)")
        }
        try lab.configure(configuration)
        let active = try lab.status().mssReplies.active
        checks.expect(active == .nft, "\(mode.name): mss.replies is \(active), not nft")
        let address = TestNetwork.service(mode)
        let listener = try lab.listener(mode)
        defer { withExtendedLifetime(listener) {} }
        try lab.setPodMTU(1500)
        defer { try? lab.setPodMTU(TestNetwork.podMTU) }
        let flow = ProbeFlow(
            outerSource: TestNetwork.of(TestNetwork.balancer, isIPv4: mode.outerIsIPv4),
            outerDestination: TestNetwork.of(TestNetwork.node, isIPv4: mode.outerIsIPv4),
            innerSource: TestNetwork.of(TestNetwork.client, isIPv4: mode.innerIsIPv4),
            innerDestination: address, probeProtocol: .tcp, port: 80)
        let probe = ProbePacket(flow: flow, token: 50_000 + UInt16(mode.rawValue), secret: 7, length: 0)
        lab.forget()
        _ = lab.send(probe.bytes)
        var size: UInt16?
        _ = try lab.wait(seconds: 2) {
            for answer in lab.answers() where probe.isAnswered(by: answer) {
                if case .synAck(_, let mss) = answer.kind { size = mss }
            }
            return size != nil
        }
        let fits = flow.fittingMSS(linkMTU: 1500)
        checks.expect(
            size.map(Int.init) == fits,
            "\(mode.name): the pod answered an MSS of \(size.map { "\($0)" } ?? "nothing"), and \(fits) fits")
    }

    private static func pathMTU(_ lab: SelfTestLab, _ mode: Mode, _ checks: inout Checks) throws {
        try lab.configure(joining)
        // Another one for each mode: the client remembers what it was told.
        let small = TestNetwork.podMTU - 60 - 10 * Int(mode.rawValue)
        try lab.setPodMTU(small)
        defer { try? lab.setPodMTU(TestNetwork.podMTU) }
        try lab.expectPathMTU(mode, small, &checks)
    }

    // MARK: Changes under traffic

    /// Runs a verb of this binary while datagrams are sent, and expects all of them back.
    /// - Returns: the verb's exit code, and what it printed.
    private static func run(
        _ verb: String, _ lab: SelfTestLab, _ checks: inout Checks
    ) throws -> (code: Int32, text: String) {
        let stream = try EchoStream(lab, .ipip)
        let process = try lab.start(verb: [verb, "--socket", lab.socket], in: .node)
        let end = Host.monotonicNanoseconds() + 20_000_000_000
        try stream.run { !process.isRunning || Host.monotonicNanoseconds() > end }
        checks.expect(!process.isRunning, "shuck \(verb) did not end within 20 s")
        checks.expect(
            stream.lost == 0, "\(stream.lost) of \(stream.sent) datagrams were lost during shuck \(verb)")
        checks.expect(
            stream.surplus == 0, "\(stream.surplus) answers came twice or changed during shuck \(verb)")
        return (process.status() ?? -1, lab.printed)
    }

    private static func reload(_ lab: SelfTestLab, _ modes: [Mode], _ checks: inout Checks) throws {
        var fewer = NodeConfiguration()
        fewer.services = [.ipip]
        try lab.configure(fewer)
        try lab.write(NodeConfiguration())
        let applied = try run("reload", lab, &checks)
        checks.expect(applied.code == 0, "shuck reload ended with \(applied.code): \(applied.text)")
        for mode in modes { try lab.expectDatagrams(mode, count: 5, &checks) }
        try lab.write(text: "interfaces: [eth0]\ntunnels: none\n")
        let refused = try run("reload", lab, &checks)
        checks.expect(
            refused.code == 1 && !refused.text.isEmpty,
            "shuck reload of a wrong file ended with \(refused.code): \(refused.text)")
        for mode in modes { try lab.expectDatagrams(mode, count: 5, &checks) }
    }

    private static func upgrade(_ lab: SelfTestLab, _ modes: [Mode], _ checks: inout Checks) throws {
        try lab.configure(joining)
        let before = try lab.status()
        let upgraded = try run("upgrade", lab, &checks)
        checks.expect(upgraded.code == 0, "shuck upgrade ended with \(upgraded.code): \(upgraded.text)")
        let after = try lab.status()
        checks.expect(after.handOvers > before.handOvers, "no process took over")
        checks.expect(after.processID == before.processID, "another process serves the socket")
        for mode in modes { try lab.expectDatagrams(mode, count: 5, &checks) }
    }
    /// The supervisor starts another engine, which goes on with what waits in the rings.
    private static func killEngine(_ lab: SelfTestLab, _ modes: [Mode], _ checks: inout Checks) throws {
        try lab.configure(joining)
        let before = try lab.status()
        guard let engine = before.engineProcessID else { throw Failure(message: "status names no engine") }
        let stream = try EchoStream(lab, .ipip)
        try stream.run(count: 20)
        kill(engine, SIGKILL)
        let end = Host.monotonicNanoseconds() + 5_000_000_000
        var after: StatusReport?
        try stream.run {
            let now = try? lab.status()
            if let now, now.engineRestarts ?? 0 > before.engineRestarts ?? 0 { after = now }
            return after != nil || Host.monotonicNanoseconds() > end
        }
        checks.expect(after != nil, "no other engine was started within 5 s")
        checks.expect(
            after?.processID == before.processID, "another process serves the socket")
        checks.expect(
            stream.lost == 0, "\(stream.lost) of \(stream.sent) datagrams were lost with the engine")
        for mode in modes { try lab.expectDatagrams(mode, count: 5, &checks) }
    }
}
