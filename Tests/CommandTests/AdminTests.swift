// The verbs that ask a daemon: without one, and against a socket that answers as one would.

import Foundation
import LinuxIO
import Synchronization
import Testing

@testable import Daemon
@testable import shuck

/// Serves canned answers on a unix socket, one a connection, until it goes.
final class FakeDaemon: Sendable {
    private let listener: Int32
    private let heard = Mutex<[String]>([])

    /// First lines of the requests so far.
    var requests: [String] { heard.withLock { $0 } }

    /// - Parameter answer: status and body for a request's first line; nil hangs up.
    init(_ path: String, answer: @escaping @Sendable (String) -> (Int, String)?) throws {
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listener, 8) == 0)
        Thread.detachNewThread { [self] in
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0 else { return }
                serve(connection, answer)
                close(connection)
            }
        }
    }

    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private func serve(_ connection: Int32, _ answer: (String) -> (Int, String)?) {
        var chunk = [UInt8](repeating: 0, count: 4096)
        var text = ""
        while !text.contains("\r\n\r\n") {
            let count = recv(connection, &chunk, chunk.count, 0)
            guard count > 0 else { return }
            text += String(decoding: chunk[..<count], as: UTF8.self)
        }
        let line = String(text.prefix { $0 != "\r\n" })
        heard.withLock { $0.append(line) }
        guard let (status, body) = answer(line) else { return }
        let whole =
            "HTTP/1.1 \(status) X\r\nContent-Type: text/plain\r\n"
            + "content-length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"
        _ = Array(whole.utf8).withUnsafeBytes { send(connection, $0.baseAddress, $0.count, 0) }
    }
}

@Suite struct AdminTests {
    private let configuration = """
        interfaces: [lo]
        tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26],
                   destinations: [{prefix: 10.2.1.9}]}]
        outer: {fragments: {memory: 0}}

        """

    /// Runs shuck beside a daemon that answers so.
    /// - Parameter upgrade: its word where it is asked for an upgrade; nil: it cannot be asked.
    private func run(
        _ arguments: [String], upgrade: HandOverMessage? = nil,
        answer: @escaping @Sendable (String) -> (Int, String)?
    ) throws -> (outcome: Outcome, requests: [String]) {
        let shell = try Shell()
        try shell.write("c.yaml", configuration)
        let daemon = try FakeDaemon(shell.path("s.sock"), answer: answer)
        defer { daemon.stop() }
        if let upgrade {
            let listener = try HandOverListener(path: shell.path("s.sock.hand-over"))
            Thread.detachNewThread {
                _ = Host.waitReadable([listener.descriptor.number], milliseconds: 10_000)
                let asking = listener.accept()
                guard case .upgrade = try? asking?.hear()?.message else { return }
                try? asking?.say(upgrade)
            }
        }
        return (try shell.run(arguments + ["--socket", "s.sock"]), daemon.requests)
    }

    // MARK: no daemon

    @Test func withoutADaemonItIsThree() throws {
        let shell = try Shell()
        try shell.write("c.yaml", configuration)
        try shell.write("file.sock", "")
        for socket in ["none.sock", "file.sock", "none/s.sock"] {
            for verb in [["reload"], ["status"], ["upgrade"], ["check", "--config", "c.yaml", "--diff"]] {
                let outcome = try shell.run(verb + ["--socket", socket])
                #expect(outcome.code == 3)
                #expect(
                    outcome.error
                        == "shuck: no shuck serves \(socket): start it, or give --socket\n")
                #expect(outcome.output == "")
            }
        }
    }

    // MARK: reload

    @Test func reload() throws {
        let (applied, requests) = try run(["reload"]) { _ in (200, "") }
        #expect(applied.code == 0)
        #expect(applied.output == "applied\n")
        #expect(requests == ["POST /reload HTTP/1.1"])
        let problems = "c.yaml:1:1: bad\nc.yaml:2:1: worse\n"
        let (refused, _) = try run(["reload"]) { _ in (409, problems) }
        #expect(refused.code == 1)
        #expect(refused.output == problems)
        #expect(refused.error == "shuck: refused; the old configuration goes on\n")
        let (json, _) = try run(["reload", "--json"]) { _ in (409, problems) }
        #expect(json.code == 1)
        #expect(json.output.contains(#""applied" : false"#))
        #expect(json.output.contains(#""c.yaml:2:1: worse""#))
    }

    // MARK: upgrade

    @Test func upgrade() throws {
        let looks = Mutex(0)
        @Sendable func status(_ handOvers: Int, process: Int = 7) -> (Int, String)? {
            (200, #"{"version": "0.\#(handOvers)", "processID": \#(process), "handOvers": \#(handOvers)}"#)
        }
        let (done, _) = try run(["upgrade"], upgrade: .prepared) { _ in
            // Before; the one that stands in; nobody for a moment; the new one.
            let look = looks.withLock { looks in
                defer { looks += 1 }
                return looks
            }
            return switch look {
            case 0: status(4)
            case 1: status(5, process: 8)
            case 2: nil
            default: status(6)
            }
        }
        #expect(done.code == 0 && done.output == "upgraded from 0.4 to 0.6\n", "\(done)")
        let (refused, _) = try run(["upgrade"], upgrade: .refuse("it has ended")) { _ in status(0) }
        #expect(refused.code == 1)
        #expect(refused.error == "shuck: not upgraded, the old shuck goes on: it has ended\n")
        let (silent, _) = try run(["upgrade"]) { _ in status(0) }
        #expect(silent.code == 1)
        #expect(silent.error.contains("cannot be asked to upgrade: no shuck runs that could upgrade itself"))
        for answer in ["{}", "no JSON"] {
            let (older, _) = try run(["upgrade"]) { _ in (200, answer) }
            #expect(older.code == 1)
            #expect(older.error.contains("cannot upgrade itself: restart it"))
        }
    }

    @Test func answersThatAreNone() throws {
        let (hungUp, _) = try run(["reload"]) { _ in nil }
        #expect(hungUp.code == 1)
        #expect(hungUp.error == "shuck: what serves s.sock does not answer as shuck does\n")
        let (starting, _) = try run(["status"]) { _ in (503, "starting\n") }
        #expect(starting.code == 1)
        #expect(starting.error == "shuck: the shuck at s.sock is still starting\n")
        let (older, _) = try run(["check", "--config", "c.yaml", "--diff"]) { _ in (404, "no\n") }
        #expect(older.code == 1)
        #expect(older.error.contains("has no /config: it is another version"))
        let (other, _) = try run(["status"]) { _ in (200, "{}") }
        #expect(other.code == 1)
        #expect(other.error.contains("is another version than this one"))
        let (failed, _) = try run(["reload"]) { _ in (500, "") }
        #expect(failed.code == 1)
        #expect(failed.error == "shuck: the shuck at s.sock answers 500 to a reload\n")
    }

    // MARK: check --diff

    @Test func differences() throws {
        let running = configuration
        let (same, requests) = try run(["check", "--config", "c.yaml", "--diff"]) { _ in
            (200, running)
        }
        #expect(same.code == 0)
        #expect(same.output == "")
        #expect(requests == ["GET /config HTTP/1.1"])
        let changed = configuration + "mss: {ipv4: 1300}\n"
        let (other, _) = try run(["check", "--config", "c.yaml", "--diff"]) { _ in
            (200, changed)
        }
        #expect(other.code == 0)
        #expect(other.output == "mss.ipv4: 1300 -> auto\n")
        let (json, _) = try run(["check", "--config", "c.yaml", "--diff", "--json"]) { _ in
            (200, changed)
        }
        #expect(json.output.contains(#""mss.ipv4: 1300 -> auto""#))
        let (unread, _) = try run(["check", "--config", "c.yaml", "--diff"]) { _ in
            (200, "interfaces: 7\n")
        }
        #expect(unread.code == 1)
        #expect(unread.error.contains("the running configuration cannot be read"))
    }

    // MARK: status

    /// As `/status` has it, at a time and with so many packets received.
    private static func status(
        uptime: Double, received: Int, notReady: [String] = []
    ) -> String {
        """
        {
          "configurationFile": "/etc/shuck/shuck.yaml",
          "devices": [{"name": "shuck0", "state": "up", "mtu": 1500, "queues": 1,
                       "offloads": ["checksum", "tcp"], "joins": ["tcp"]}],
          "dropsByReason": {"ip_csum": 1, "ip_rpfilter": 1234567},
          "lastDrops": {"ip_rpfilter": {"age": 61, "interface": "eth0", "packet": "one > two"}},
          "engine": "io_uring",
          "generation": 3,
          "handOvers": 0,
          "injectedByMode": {"ipip": 5, "ip6ip6": 2},
          "interfaces": [{"name": "eth0", "state": "receiving", "mtu": 1500,
                          "reversePath": "strict", "claimAsked": "auto",
                          "claimActive": "socket", "ringSlots": 4096, "slotBytes": 2048,
                          "nodes": [1]}],
          "joining": "on, but shuck0 tcp only",
          "lastReloadProblems": ["c.yaml:1:1: bad"],
          "lastReloadSuccessful": false,
          "mode": "active",
          "mssReplies": {"asked": "nft", "active": "nft", "table": "shuck-42"},
          "ready": \(notReady.isEmpty),
          "notReady": [\(notReady.map { "\"\($0)\"" }.joined(separator: ", "))],
          "notes": ["consume: raw sockets instead of a program"],
          "placement": ["interrupt 26 of eth0 is handled on NUMA node 0"],
          "packets": {"received": \(received), "injected": 7, "passed": 0, "held": 0,
                      "dropped": 1234568, "replied": 0, "injectedBytes": 700, "writes": 7,
                      "ringDropped": 0, "mssClamped": 0},
          "processID": 42,
          "routesAge": 0,
          "routesIPv4": 12,
          "routesIPv6": 4,
          "routesResyncs": {"links": 1},
          "rules": 5,
          "tunnels": ["lvs"],
          "uptime": \(uptime),
          "version": "9.9.9",
          "workers": [{"worker": 0, "cpu": 3, "node": 0, "state": "running",
                       "received": \(received), "ringDropped": 0,
                       "cpuSeconds": \(uptime / 4)}]
        }

        """
    }

    @Test func theScreen() throws {
        let looks = Atomic<Int>(0)
        let (outcome, _) = try run(["status"]) { _ in
            let look = looks.add(1, ordering: .relaxed).oldValue
            return (200, Self.status(uptime: 100 + 0.5 * Double(look), received: 1000 * (look + 1)))
        }
        #expect(outcome.code == 0)
        #expect(outcome.error == "")
        // Not a terminal: no colour.
        #expect(!outcome.output.contains("\u{1b}"))
        let lines = outcome.output.split(separator: "\n").map(String.init)
        #expect(lines.first == "ready")
        #expect(lines[1] == "shuck 9.9.9  active  up 1 min 40 s  process 42")
        for expected in [
            "configuration  /etc/shuck/shuck.yaml, generation 3, last reload refused",
            "eth0       receiving  1500  strict        auto         socket        1     "
                + "4096 of 2048 bytes",
            "shuck0  up     1500       1  checksum tcp  tcp    -",
            "     0    3     0     2,000      2,000   25.0        125,000           0  running",
            "received            2,000       2,000",
            "  ipip                  5           0",
            "ip_rpfilter  1,234,567           0  1 min 1 s ago on eth0: one > two",
            "ip_csum              1           0  -",
            "routes         12 IPv4, 4 IPv6, 5 rules",
            "MSS of replies asked nft, active nft, table inet shuck-42",
            "! reload refused: c.yaml:1:1: bad",
            "! consume: raw sockets instead of a program",
            "! interrupt 26 of eth0 is handled on NUMA node 0",
        ] {
            #expect(lines.contains(expected), "\(expected)\n\(outcome.output)")
        }
        // A line stands empty between two parts.
        #expect(outcome.output.contains("table inet shuck-42\n\nINTERFACE"))
        let order = ["ip_rpfilter", "ip_csum"].map { name in
            lines.firstIndex { $0.hasPrefix(name) } ?? -1
        }
        #expect(order[0] > 0 && order[0] < order[1])
    }

    /// On a terminal, what does not hold stands out.
    @Test func theColoursOfTheScreen() throws {
        func screen(_ change: (inout StatusReport) -> Void) throws -> String {
            let text = Self.status(uptime: 9, received: 9)
            var report = try JSONDecoder().decode(StatusReport.self, from: Data(text.utf8))
            change(&report)
            let painter = Painter(isColoured: true)
            return StatusScreen(now: report, before: report, painter: painter).text
        }
        func painted(_ text: String, _ style: Style) -> String {
            "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m"
        }
        let refused = painted("! reload refused: c.yaml:1:1: bad", .bad)
        let usual = try screen { _ in }
        #expect(usual.contains(refused + "\n"))
        #expect(usual.contains(painted("active", .good)))
        #expect(usual.contains("MSS of replies asked nft, active nft, table"))
        #expect(usual.contains("4 IPv6, 5 rules\n"))
        for (mode, active) in [("active", painted("off", .bad)), ("shadow", "off")] {
            let without = try screen {
                $0.mode = .init(rawValue: mode) ?? $0.mode
                $0.mssReplies.active = .off
                $0.routesAge = 7.5
            }
            #expect(without.contains("MSS of replies asked nft, active \(active), table"), "\(mode)")
            #expect(without.contains("5 rules, resyncing for 7 s\n"))
            #expect(without.contains(painted(mode, mode == "active" ? .good : .attention)))
        }
    }

    @Test("what is not ready is said first, and is exit code 1")
    func notReady() throws {
        let problems = ["worker 0 ended: no memory", "interface eth1 is absent"]
        for arguments in [["status"], ["status", "--json"]] {
            let (outcome, _) = try run(arguments) { _ in
                (200, Self.status(uptime: 1, received: 0, notReady: problems))
            }
            #expect(outcome.code == 1)
            #expect(outcome.output.contains("ended: no memory"))
            guard arguments.count == 1 else { continue }
            let first = outcome.output.split(separator: "\n").first
            #expect(first == "not ready: worker 0 ended: no memory; interface eth1 is absent")
        }
    }

    @Test func theDaemonsOwnJSON() throws {
        let text = Self.status(uptime: 7, received: 7)
        let (outcome, requests) = try run(["status", "--json"]) { _ in (200, text) }
        #expect(outcome.code == 0)
        #expect(outcome.output == text)
        #expect(requests == ["GET /status HTTP/1.1"])
    }

    @Test func watchingEndsWithTheDaemon() throws {
        let looks = Atomic<Int>(0)
        let start = ContinuousClock.now
        let (outcome, _) = try run(["status", "--watch"]) { _ in
            let look = looks.add(1, ordering: .relaxed).oldValue
            // Started anew between the second look and the third: no rates.
            return look == 3 ? nil : (200, Self.status(uptime: look == 2 ? 1 : 50, received: 9))
        }
        #expect(outcome.code == 1)
        let screens = outcome.output.components(separatedBy: "shuck 9.9.9  active").count - 1
        #expect(screens == 2)
        #expect(outcome.output.contains("received                9           -"))
        // Half a second to the first screen, and one from each screen to the next look.
        #expect(start.duration(to: .now) >= .milliseconds(2500))
    }

    // MARK: status --why

    /// As `/why` has it.
    private static func why(accepted: [Bool]) -> String {
        let verdicts = accepted.enumerated().map { place, isAccepted in
            let reason = isAccepted ? "" : #", "reason": "ip_rpfilter""#
            return #"{"interface": "eth\#(place)", "mode": "strict", "isAccepted": \#(isAccepted)\#(reason)}"#
        }
        return """
            {"source": "198.51.100.7", "rule": "0: from all lookup main", "table": "main",
             "prefix": "0.0.0.0/0", "routes": ["default dev eth0", "default dev eth1 metric 7"],
             "verdicts": [\(verdicts.joined(separator: ", "))], "passedOver": ["7: from all tos 0x10"],
             "age": 3}
            """
    }

    @Test("the exit code of status --why says whether every interface takes the source")
    func why() throws {
        let arguments = ["status", "--why", "198.51.100.7"]
        for (accepted, code) in [([true, true], 0), ([true, false], 1), ([false], 1)] {
            let answer = Self.why(accepted: accepted)
            let (outcome, requests) = try run(arguments) { _ in (200, answer) }
            #expect(outcome.code == Int32(code))
            #expect(requests == ["GET /why?source=198.51.100.7 HTTP/1.1"])
            #expect(
                outcome.output.hasPrefix(
                    """
                    source       198.51.100.7
                    rule         0: from all lookup main
                    table        main
                    route        default dev eth0
                    also         default dev eth1 metric 7
                    eth0, strict: \(accepted[0] ? "accepted" : "dropped, ip_rpfilter")

                    """), "\(outcome.output)")
            #expect(
                outcome.output.hasSuffix(
                    """
                    ! may match other packets of this source: 7: from all tos 0x10
                    ! resyncing routes for 3 s

                    """))
            let (json, _) = try run(arguments + ["--json"]) { _ in (200, answer) }
            #expect(json.code == Int32(code) && json.output == answer)
        }
    }

    @Test func whyAsksForOneInterfaceAndDestination() throws {
        let answer = Self.why(accepted: [true])
        let more = ["--interface", "eth1", "--destination", "203.0.113.4"]
        let (outcome, requests) = try run(["status", "--why", "198.51.100.7"] + more) { _ in
            (200, answer)
        }
        #expect(outcome.code == 0)
        #expect(
            requests == ["GET /why?source=198.51.100.7&interface=eth1&destination=203.0.113.4 HTTP/1.1"])
        let (unknown, _) = try run(["status", "--why", "198.51.100.7"] + more) { _ in (404, "") }
        #expect(unknown.code == 2 && unknown.error.contains("--interface eth1 is not configured"))
        let (older, _) = try run(["status", "--why", "198.51.100.7"]) { _ in (404, "") }
        #expect(older.code == 1 && older.error.contains("has no /why: it is another version"))
        for wrong in [
            ["--why", "198.51.100.7", "--destination", "2001:db8::1"], ["--why", "here"],
            ["--why", "198.51.100.7", "--watch"], ["--interface", "eth0"],
        ] {
            let (refused, asked) = try run(["status"] + wrong) { _ in (200, answer) }
            #expect(refused.code == 2 && asked.isEmpty, "\(wrong)")
        }
    }
}
