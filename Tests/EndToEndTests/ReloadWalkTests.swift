// A random walk of reloads: good and bad configurations, interfaces and namespaces that come and go, and
// system calls of the control thread that fail. At its end the host is as a fresh start makes it.
//
// In CI a short one. The long one:
//   SHUCK_RELOADS=10000 swift test --skip-build --no-parallel --filter ReloadWalkTests

import Foundation
import TestPackets
import Testing

extension EndToEnd {
    @Suite struct ReloadWalkTests {
        private static let environment = ProcessInfo.processInfo.environment
        private static let reloads = environment["SHUCK_RELOADS"].flatMap { Int($0) } ?? 500

        /// A walk of this many is compared, then the next one begins.
        private static let length = 250

        @Test func theHostIsAsAFreshStartMakesIt() throws {
            let seed = try Random.seed(usually: 20_261_127)
            var counts = Counts()
            for number in 0..<(Self.reloads + Self.length - 1) / Self.length {
                let walkSeed = seed &+ UInt64(number)
                try Rig.with { rig in
                    var walk = Walk(rig, seed: walkSeed)
                    defer { walk.end() }
                    try walk.run(reloads: min(Self.length, Self.reloads), &counts)
                }
            }
            print("reload walk: \(counts)")
            #expect(counts.applied > Self.reloads / 10 && counts.refused > Self.reloads / 10, "\(counts)")
        }
    }

    private struct Counts: CustomStringConvertible {
        var (applied, refused, broken) = (0, 0, 0)
        var description: String {
            "\(applied) applied, \(refused) refused, \(broken) of all with a failing system call"
        }
    }

    private struct Walk {
        let rig: Rig
        let seed: UInt64
        var random: Random
        let pods: [String]
        /// Pods' namespaces that are there.
        var there: Set<String> = []
        /// Links beside the rig's that are there.
        var links: Set<String> = []
        static let linkNames = (0..<5).map { "w\($0)" }
        static let prefix = "sh"

        init(_ rig: Rig, seed: UInt64) {
            self.rig = rig
            self.seed = seed
            random = Random(seed)
            pods = (0..<3).map { "\(rig.name)-extra\($0)" }
        }

        mutating func end() {
            for pod in there { _ = try? rig.launch(["ip", "netns", "delete", pod]).wait() }
        }

        mutating func run(reloads: Int, _ counts: inout Counts) throws {
            var accepted = Setup()
            let daemon = try Daemon.ready(rig, accepted)
            for number in 1...reloads {
                if random.chance(0.3) { try changeHost() }
                let next = setup()
                if random.chance(0.15) {
                    try daemon.configure(text: broken(next, socket: daemon.socket))
                } else {
                    try daemon.configure(next)
                }
                let fault = random.chance(0.25) ? try failingCall(daemon) : nil
                let answer = try daemon.reload()
                if let fault {
                    try fault.end()
                    counts.broken += 1
                }
                try #require(
                    daemon.process.isRunning, "seed \(seed), reload \(number): \(daemon.process.errors)")
                if answer.status == 200 {
                    counts.applied += 1
                    accepted = try configured(daemon)
                } else {
                    counts.refused += 1
                }
            }
            // The last fault may have been in the last reload: an nft context is made again by the next one.
            try daemon.configure(accepted)
            #expect(try daemon.reload().status == 200, "seed \(seed)")
            try compare(daemon, accepted)
        }

        /// What the file says now.
        private func configured(_ daemon: Daemon) throws -> Setup {
            var setup = Setup()
            setup.whole = try String(contentsOfFile: daemon.configurationPath, encoding: .utf8)
            return setup
        }

        private func compare(_ daemon: Daemon, _ accepted: Setup) throws {
            let walked = try settled(daemon)
            #expect(try daemon.stop().status == 0)
            let fresh = try Daemon(rig, accepted)
            try eventually("a fresh start", 10) {
                guard fresh.process.isRunning else { throw Failure("seed \(seed): \(fresh.process.errors)") }
                return AdminClient.ask(fresh.socket, "GET", "/healthz")?.status == 200
            }
            let started = try settled(fresh)
            let difference = started.difference(from: walked)
            let said = daemon.process.errors.split(separator: "\n").filter { $0.contains(" error ") }
            #expect(
                difference == [],
                "seed \(seed): \(accepted.whole ?? "")\(said.suffix(20).joined(separator: "\n"))")
            #expect(try fresh.stop().status == 0)
        }

        /// What it holds when that does not change any more: failed parts are tried again within 10 s.
        private func settled(_ daemon: Daemon) throws -> HeldState {
            var last: HeldState?
            try eventually("a state that stays", 30) {
                let notes = try daemon.status().notes.joined()
                let now = try HeldState(
                    rig, daemon, namespaces: there.sorted(), prefix: Self.prefix)
                defer { last = now }
                return now == last && !Self.causes.contains { notes.contains($0) }
            }
            return try #require(last)
        }

        // MARK: what changes

        /// Of `FailingCall.moreErrors`, as notes have them.
        private static let causes = ["Cannot allocate memory", "Too many open files", "No buffer space"]

        private mutating func failingCall(_ daemon: Daemon) throws -> FailingCall {
            let kind = random.pick(FailingCall.kinds)
            let error = random.pick(FailingCall.moreErrors)
            let occurrence = random.below(random.pick([3, 10, 40])) + 1
            return try FailingCall(
                rig, of: daemon.process.processID, kind, error: error, occurrence: occurrence)
        }

        private mutating func changeHost() throws {
            if random.chance(0.4) {
                let pod = random.pick(pods)
                let verb = there.remove(pod) == nil ? "add" : "delete"
                try rig.launch(["ip", "netns", verb, pod]).wait().get()
                if verb == "add" { there.insert(pod) }
                return
            }
            let name = random.pick(Self.linkNames)
            if links.remove(name) != nil {
                try rig.ip(.node, "link delete \(name)\n")
            } else {
                links.insert(name)
                try rig.ip(
                    .node,
                    """
                    link add \(name) type veth peer name peer-\(name)
                    link set \(name) up
                    link set peer-\(name) up

                    """)
            }
        }

        private mutating func setup() -> Setup {
            var setup = Setup()
            setup.interfaces = ["eth0"] + Self.linkNames.filter { _ in random.chance(0.4) }
            if random.chance(0.2) { setup.interfaces.removeFirst() }
            if setup.interfaces.isEmpty { setup.interfaces = ["w9"] }
            var devices: [String] = []
            for number in 0..<random.below(3) + 1 { devices.append("name: sh\(number)") }
            for (number, pod) in pods.enumerated() where random.chance(0.3) {
                devices.append("name: shp\(number), netns: /run/netns/\(pod)")
            }
            setup.more.append("devices:")
            for device in devices {
                let mtu = random.pick([1400, 1500, 4000])
                let address = random.pick(["127.0.0.42/32", "127.0.0.43/32", "169.254.7.1/32"])
                setup.more.append("  - {\(device), mtu: \(mtu), address: \(address)}")
            }
            setup.more.append("consume: \(random.pick(["auto", "auto", "bpf", "socket", "\"off\""]))")
            if random.chance(0.3) {
                setup.more.append("mss: {replies: nft, ipv4: \(random.pick([1300, 1400]))}")
            }
            if random.chance(0.3) {
                let interface = random.pick(setup.interfaces)
                let last = random.below(2) + 1
                setup.more.append(
                    "inner: {rewriteSources: [{interface: \(interface), from: \"fe80::\(last)\", "
                        + "to: \"2001:db8:99::\(last)\"}]}")
            }
            if random.chance(0.1) { setup.more.append("mode: shadow") }
            setup.tunnels[0].local = random.chance(0.5) ? [Rig.node4] : [Rig.node4, Rig.node6]
            return setup
        }

        /// A text that is refused: not YAML, a wrong value, beyond a limit, or only by a restart.
        private mutating func broken(_ setup: Setup, socket: String) -> String {
            let text = setup.text(socket: socket)
            switch random.below(5) {
            case 0: return String(text.prefix(random.below(text.count))) + "\n  ]"
            case 1: return text + "nonsense: 1\n"
            case 2:
                var many = setup
                many.interfaces = (0..<300).map { "i\($0)" }
                return many.text(socket: socket)
            case 3:
                var many = setup
                many.more = ["devices:"] + (0..<1100).map { "  - {name: d\($0)}" }
                return many.text(socket: socket)
            default: return text.replacingOccurrences(of: "cpus: \"0\"", with: "cpus: \"0-1\"")
            }
        }
    }
}
