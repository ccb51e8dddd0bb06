// Each kind of system call that the control thread makes during a reload fails once, on the way from one
// configuration to another. The reload is applied or refused, and then the host is as a fresh start of the
// configuration in force makes it.
//
// In CI each kind fails once. The long form, in which each call fails once, both ways:
//   SHUCK_FAULTS=all swift test --skip-build --no-parallel --filter ReloadFaultTests

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ReloadFaultTests {
        private static let isLong = ProcessInfo.processInfo.environment["SHUCK_FAULTS"] == "all"

        private struct Fault: CustomStringConvertible {
            let kind: FailingCall.Kind
            let error: String
            let occurrence: Int
            var description: String { "\(error) of \(kind.name), call \(occurrence)" }
        }

        @Test(arguments: ["supervisor", "engine"])
        func eachSystemCallOfAReloadMayFail(of process: String) throws {
            try Rig.with { rig in
                let pods = (0..<2).map { "\(rig.name)-extra\($0)" }
                for pod in pods { try rig.launch(["ip", "netns", "add", pod]).wait().get() }
                defer { for pod in pods { _ = try? rig.launch(["ip", "netns", "delete", pod]).wait() } }
                for link in ["w0", "w1"] {
                    try rig.ip(
                        .node,
                        """
                        link add \(link) type veth peer name peer-\(link)
                        link set \(link) up
                        link set peer-\(link) up

                        """)
                }
                var walk = try Walk(rig, pods, isEngine: process == "engine")
                let faults = try walk.faults()
                for index in 0..<2 {
                    for fault in faults[index] {
                        if walk.current != index { try walk.change() }
                        try walk.change(with: fault)
                    }
                }
                print("reload faults of the \(process): \(faults[0].count + faults[1].count)")
                #expect(walk.failures == [])
            }
        }

        /// A daemon that goes from one configuration to the other and back.
        private struct Walk {
            let rig: Rig
            let pods: [String]
            /// Its calls fail, not the supervisor's.
            let isEngine: Bool
            let setups: [Setup]
            /// What a fresh start of each holds.
            private var fresh: [HeldState] = []
            private var daemon: Daemon
            /// The configuration in force.
            private(set) var current = 0
            private(set) var failures: [String] = []

            init(_ rig: Rig, _ pods: [String], isEngine: Bool) throws {
                (self.rig, self.isEngine) = (rig, isEngine)
                self.pods = pods
                setups = ReloadFaultTests.setups(pods)
                for setup in setups {
                    let daemon = try Daemon.ready(rig, setup)
                    fresh.append(try Self.held(rig, daemon, pods))
                    #expect(try daemon.stop().status == 0)
                }
                daemon = try Daemon.ready(rig, setups[0])
            }

            private static func held(_ rig: Rig, _ daemon: Daemon, _ pods: [String]) throws -> HeldState {
                try HeldState(rig, daemon, namespaces: pods, prefix: "sh")
            }

            private func process() throws -> pid_t {
                isEngine ? try daemon.status().engineProcessID : daemon.process.processID
            }

            mutating func change() throws {
                try daemon.configure(setups[1 - current])
                #expect(try daemon.reload().status == 200)
                current = 1 - current
            }

            /// The calls that are to fail, by the configuration that is in force before.
            mutating func faults() throws -> [[Fault]] {
                var counts: [[String: Int]] = []
                // What the first of each calls once and never again is no part of a reload.
                for _ in 0..<4 {
                    let counting = try FailingCall(counting: rig, of: process())
                    try change()
                    counts.append(try counting.end())
                }
                let all = counts[2...].map(ReloadFaultTests.faults)
                if isLong { return all }
                // The one in the middle of a kind's calls, of every other kind in the other direction.
                var chosen: [[Fault]] = [[], []]
                for (number, kind) in FailingCall.kinds.enumerated() {
                    let found = all.map { faults in faults.filter { $0.kind == kind } }
                    let index = found[number % 2].isEmpty ? 1 - number % 2 : number % 2
                    guard !found[index].isEmpty else { continue }
                    let occurrence = found[index].count / 2 + 1
                    chosen[index].append(Fault(kind: kind, error: kind.error, occurrence: occurrence))
                }
                return chosen
            }

            mutating func change(with fault: Fault) throws {
                let next = 1 - current
                try daemon.configure(setups[next])
                let call = try FailingCall(
                    rig, of: process(), fault.kind, error: fault.error,
                    occurrence: fault.occurrence)
                let answer = AdminClient.ask(daemon.socket, "POST", "/reload")
                try call.end()
                if answer?.status == 200 { current = next }
                do {
                    try expectRight(answer)
                } catch {
                    let log = daemon.process.errors.split(separator: "\n").suffix(5)
                    failures.append("\(fault): \(error)\n\(log.joined(separator: "\n"))")
                    daemon.process.end()
                    daemon = try Daemon.ready(rig, setups[current])
                }
            }

            /// What failed is tried again within 10 s.
            private func expectRight(_ answer: AdminAnswer?) throws {
                guard let answer, daemon.process.isRunning else { throw Failure("the daemon ended") }
                guard [200, 409].contains(answer.status) else { throw Failure("\(answer)") }
                var difference: [String] = []
                do {
                    try eventually("the state of a fresh start", 15) {
                        difference = try Self.held(rig, daemon, pods).difference(from: fresh[current])
                        return difference == []
                    }
                } catch {
                    throw Failure("\(answer.status) \(answer.body); differs: \(difference)")
                }
            }
        }

        private static func faults(_ counts: [String: Int]) -> [Fault] {
            let unknown = Set(counts.keys).subtracting(FailingCall.kinds.map(\.name))
                .subtracting(FailingCall.exempt)
            #expect(unknown == [], "the list of FailingCall lacks a system call of the control thread")
            return FailingCall.kinds.flatMap { kind in
                let errors = [kind.error] + FailingCall.moreErrors
                return (0..<counts[kind.name, default: 0]).map { number in
                    Fault(kind: kind, error: errors[number % errors.count], occurrence: number + 1)
                }
            }
        }

        /// They differ in all that a reload changes.
        private static func setups(_ pods: [String]) -> [Setup] {
            var setups = [Setup(interfaces: ["eth0", "w0"]), Setup(interfaces: ["eth0", "w1"])]
            setups[0].more = [
                "devices: [{name: sh0, mtu: 1400}, {name: sh1}, {name: shp0, netns: /run/netns/\(pods[0])}]",
                "mss: {replies: nft, ipv4: 1300}",
                "inner: {rewriteSources: [{interface: eth0, from: \"fe80::1\", to: \"2001:db8:99::1\"}]}",
            ]
            setups[1].more = [
                "devices: [{name: sh0, address: 127.0.0.43/32}, {name: sh2},"
                    + " {name: shp1, netns: /run/netns/\(pods[1])}]",
                "consume: socket",
            ]
            return setups
        }
    }
}
