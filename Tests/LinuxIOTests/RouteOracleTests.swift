// The kernel as oracle of the reverse path: random rules, tables and routes in a namespace, packets sent
// into it, and the kernel's own answer against the mirror's. The seed is printed; SHUCK_SEED repeats it,
// SHUCK_ORACLE_HOSTS asks more hosts than 50.

import CLinux
import Foundation
import Glibc
import IP
import Routing
import TestPackets
import Testing

@testable import Daemon
@testable import LinuxIO

extension OnHost {
    @Suite struct RouteOracleTests {
        private static let environment = ProcessInfo.processInfo.environment
        private static let hosts = environment["SHUCK_ORACLE_HOSTS"].flatMap(Int.init) ?? 50
        private static let questionsPerHost = 2_000

        /// 100,000 questions in all, half of each family.
        @Test("I9 the kernel says the same of random rules, tables and routes")
        func theKernelSaysTheSame() throws {
            let seed = try Random.seed(usually: 20_261_121)
            print("route oracle: seed \(seed)")
            var asked = 0
            var accepted = 0
            var hashed = 0
            for number in 0..<Self.hosts {
                var random = Random(seed &+ UInt64(number))
                try Network.with { network in
                    let host = OracleHost(&random)
                    try host.apply()
                    var following = try Following()
                    func ask(_ count: Int, _ when: String) throws {
                        let result = try OracleRun(network, host, following.follower).ask(
                            count, &random)
                        asked += result.asked
                        accepted += result.accepted
                        hashed += result.hashed
                        for difference in result.differences.prefix(5) {
                            Issue.record(
                                "host \(number) \(when), seed \(seed): \(difference)\n\(host.script)")
                        }
                    }
                    try ask(Self.questionsPerHost, "at first")
                    // The kernel looks at carriers once a second at most: a few hosts are enough.
                    guard number % 8 == 0 else { return }
                    try host.loseSide(isIgnored: number % 16 == 0)
                    try following.settle()
                    try ask(Self.questionsPerHost / 2, "without the other uplink")
                    try host.regainSide()
                    try following.settle()
                    try ask(Self.questionsPerHost / 2, "with it again")
                }
            }
            print(
                """
                route oracle: \(asked) questions, \(accepted) accepted, \(hashed) decided by the \
                flow's hash
                """)
            #expect(asked >= Self.hosts * Self.questionsPerHost)
            // Neither everything nor nothing.
            #expect(accepted > asked / 20 && accepted < asked * 19 / 20)
            #expect(hashed < asked / 10)
        }
    }
}

/// A script of `ip` commands. `near` and `side` lead out; packets come in by `near`.
struct OracleHost {
    private var scripts = ["", ""]
    /// IPv4's own rp_filter: 1 strict, 2 loose.
    let filter: Int
    static let tables = ["main", "default", "100", "1000", "70000"]

    init(_ random: inout Random) {
        filter = 1 + random.below(2)
        // Sources are 10.B.C.D and 2001:db8:B:C::D of few values; destinations the host's own.
        for table in Self.tables {
            for _ in 0..<random.below(9) { addRoute(table, isIPv4: true, &random) }
            for _ in 0..<random.below(9) { addRoute(table, isIPv4: false, &random) }
        }
        for isIPv4 in [true, false] {
            for _ in 0..<random.below(7) { addRule(isIPv4: isIPv4, &random) }
        }
        for family in 0...1 where random.chance(3) { scripts[family] += "rule del pref 32766\n" }
    }

    var script: String { "rp_filter \(filter)\n-4\n\(scripts[0])-6\n\(scripts[1])" }

    private static func prefix(isIPv4: Bool, _ random: inout Random) -> String {
        if random.chance(6) { return "default" }
        let (b, c, d) = (random.below(3), random.below(3), random.below(4))
        if isIPv4 {
            return random.pick([
                "10.0.0.0/8", "10.\(b).0.0/16", "10.\(b).0.0/17", "10.\(b).\(c).0/24",
                "10.\(b).\(c).\(d)/32", "10.\(b).\(c).\(d & 2)/31",
            ])
        }
        return random.pick([
            "2001:db8::/32", "2001:db8:\(b)::/48", "2001:db8:\(b):\(c)::/64",
            "2001:db8:\(b):\(c)::\(d)/128", "2001:db8:\(b):\(c)::\(d & 2)/127",
        ])
    }

    private mutating func addRoute(_ table: String, isIPv4: Bool, _ random: inout Random) {
        let near = isIPv4 ? "via 192.0.2.9 dev near" : "via fe80::9 dev near"
        let side = isIPv4 ? "via 198.51.100.9 dev side" : "via fe80::8 dev side"
        let hops = random.pick([
            near, near, side, side, "dev near", "dev side", "nexthop \(near) nexthop \(side)",
            "nexthop \(side) weight 3 nexthop \(near)", "\(near) onlink", "nhid 1", "nhid 12",
        ])
        let kind = random.pick(["blackhole", "unreachable", "prohibit", "throw", "", "", "", "", "", ""])
        let tos = isIPv4 && random.chance(6) ? "tos 0x10 " : ""
        let metric = random.chance(3) ? "metric \(1 + random.below(3)) " : ""
        let verb = random.pick(["add", "add", "append", "prepend"])
        let object = hops.hasPrefix("nhid") && !isIPv4 ? hops.replacing("nhid ", with: "nhid 6") : hops
        scripts[isIPv4 ? 0 : 1] += """
            route \(verb) \(kind) \(Self.prefix(isIPv4: isIPv4, &random)) \(tos)table \(table) \
            \(metric)\(kind.isEmpty ? object : "")

            """
    }

    private mutating func addRule(isIPv4: Bool, _ random: inout Random) {
        var words = ["rule add"]
        let priority = random.pick([50, 100, 200, 300, 32766, 40000])
        words.append("pref \(priority)")
        if random.chance(8) { words.append("not") }
        if random.chance(3) {
            // The packets' destinations.
            words.append(
                "from "
                    + (isIPv4
                        ? "192.0.2.\(random.pick(["2", "3", "0/24"]))"
                        : "2001:db8:ff::\(random.pick(["2", "3", "/64"]))"))
        }
        if random.chance(3) { words.append("to \(Self.prefix(isIPv4: isIPv4, &random))") }
        if random.chance(8) { words.append("iif \(random.pick(["lo", "near", "gone0"]))") }
        if random.chance(12) { words.append("oif \(random.pick(["near", "side"]))") }
        if random.chance(6) { words.append("tos 0x10") }
        if random.chance(10) { words.append("fwmark \(random.pick(["0/1", "1", "0x10/0xf0"]))") }
        if random.chance(6) { words.append("ipproto \(random.pick(["udp", "tcp"]))") }
        if random.chance(8) { words.append("sport \(random.pick(["80", "1-100", "500-600"]))") }
        if random.chance(8) { words.append("dport \(random.pick(["80", "1-100", "500-600"]))") }
        if random.chance(10) { words.append("uidrange \(random.pick(["0-0", "1-1000", "0-1000"]))") }
        switch random.below(9) {
        case 0: words.append(random.pick(["blackhole", "unreachable", "prohibit"]))
        case 1:
            let behind = [200, 300, 32766, 40000, 50_000].filter { $0 > priority }
            words.append("goto \(random.pick(behind))")
        case 2: words.append("nop")
        default:
            words.append("lookup \(random.pick(Self.tables))")
            if random.chance(4) {
                words.append("suppress_prefixlength \(random.pick([0, 8, 16, 24, 32, 48]))")
            }
            if random.chance(6) { words.append("suppress_ifgroup \(random.pick([0, 7]))") }
        }
        scripts[isIPv4 ? 0 : 1] += words.joined(separator: " ") + "\n"
    }

    /// What the kernel refuses (a route twice, a target behind) it refuses: the mirror sees the rest.
    func apply() throws {
        try Network.run(
            """
            set -e
            ip link add side type veth peer name away
            ip link set side up group 7
            ip link set away up
            ip address add 192.0.2.2/24 dev near
            ip address add 192.0.2.3/24 dev near
            ip address add 198.51.100.1/24 dev side
            ip address add 2001:db8:ff::2/64 dev near nodad
            ip address add 2001:db8:ff::3/64 dev near nodad
            ip nexthop add id 1 via 192.0.2.9 dev near
            ip nexthop add id 2 via 198.51.100.9 dev side
            ip nexthop add id 12 group 1/2
            ip nexthop add id 61 via fe80::9 dev near
            ip nexthop add id 62 via fe80::8 dev side
            ip nexthop add id 612 group 61/62
            # Without a rule of one's own the kernel asks none: local and main are one table.
            ip rule add pref 1 nop
            ip -6 rule add pref 1 nop
            ip -4 -force -batch - >/dev/null 2>&1 <<'END' || true
            \(scripts[0])
            END
            ip -6 -force -batch - >/dev/null 2>&1 <<'END' || true
            \(scripts[1])
            END
            echo \(filter) >/proc/sys/net/ipv4/conf/near/rp_filter
            nft -f - <<'END'
            table inet oracle {
              chain ask {
                type filter hook prerouting priority -300;
                meta nfproto ipv6 iif near ip6 daddr 2001:db8:ff::/64 fib saddr . iif oif missing drop
              }
              chain answers { type filter hook output priority 0; policy drop; }
            }
            END
            """)
    }
}

extension OracleHost {
    /// The other uplink loses its carrier.
    /// - Parameter isIgnored: its routes do not count any more. IPv4's alone: netfilter's lookup of
    ///   IPv6 does not look at it.
    func loseSide(isIgnored: Bool) throws {
        try Network.run(
            """
            echo \(isIgnored ? 1 : 0) >/proc/sys/net/ipv4/conf/side/ignore_routes_with_linkdown
            ip link set away down
            """)
        try Network.waitForCarrierLoss(["side"])
    }

    /// And regains it: routes with flags live again, what stood on nexthop objects does not.
    func regainSide() throws {
        try Network.run("ip link set away up")
        try Network.waitForCarrier(["side", "away"])
    }
}

/// Questions to one host: packets in by `near`, and what of them arrived.
private struct OracleRun {
    struct Result {
        var asked = 0
        var accepted = 0
        /// Differences that are the kernel's choice of one nexthop of an IPv6 route.
        var hashed = 0
        var differences: [String] = []
    }
    private let network: Network
    private let follower: RouteFollower
    private let filter: Int
    /// The same host with one nexthop an IPv6 route: `near` where it has it, and another.
    private let choices: [RouteTable]
    /// Raw sockets of UDP and TCP, both families: they see what was delivered.
    private let receivers: [Descriptor]

    init(_ network: Network, _ host: OracleHost, _ follower: RouteFollower) throws {
        self.network = network
        self.follower = follower
        filter = host.filter
        let links = try NetlinkSocket().links()
        let mirror = follower.mirror
        choices = [true, false].map { isNear in
            let chosen = mirror.entries().map { entry in
                var entry = entry
                if !entry.prefix.isIPv4 {
                    let hops = entry.interfaces.filter { ($0 == network.near) == isNear }
                    if !hops.isEmpty { entry.interfaces = hops }
                }
                return entry
            }
            let other = RouteMirror()
            other.load(
                chosen, rules: mirror.rules,
                groups: Dictionary(uniqueKeysWithValues: links.map { ($0.index, $0.group) }))
            return other.generation()
        }
        receivers = [AF_INET, AF_INET6].flatMap { family in
            [IPPROTO_UDP, IPPROTO_TCP].map { number in
                Descriptor(
                    socket(
                        family, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
                        Int32(number)))
            }
        }
        for receiver in receivers {
            var bytes: Int32 = 64 << 20
            setsockopt(receiver.number, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
        }
    }

    private struct Question {
        var question: ReversePathQuestion
        var isIPv4: Bool
        var frame: [UInt8]
    }

    func ask(_ count: Int, _ random: inout Random) throws -> Result {
        let questions = (0..<count).map { Self.question($0, &random) }
        var arrived: Set<Int> = []
        for start in stride(from: 0, to: count, by: 200) {
            let end = min(start + 200, count)
            try network.send(questions[start..<end].map(\.frame))
            receive(&arrived, patience: 0)
        }
        receive(&arrived, patience: 20)
        var result = Result(asked: count)
        let table = follower.generation
        for (index, question) in questions.enumerated() {
            let isOurs = isAccepted(question, table)
            if isOurs { result.accepted += 1 }
            if isOurs == arrived.contains(index) { continue }
            if !question.isIPv4,
                choices.contains(where: {
                    isAccepted(question, $0) == arrived.contains(index)
                })
            {
                result.hashed += 1
                continue
            }
            // A packet may get lost; a second time it is no accident.
            for _ in 0..<3 where isOurs && !arrived.contains(index) {
                try network.send([question.frame])
                receive(&arrived, patience: 50)
            }
            if isOurs == arrived.contains(index) { continue }
            let why = follower.mirror.explain(question.question, isIPv4: question.isIPv4)
            result.differences.append(
                "\(question.question): \(isOurs ? "accepted" : "refused") by us alone: \(why)")
        }
        return result
    }

    private func isAccepted(_ question: Question, _ table: RouteTable) -> Bool {
        let record = table.view.find(question.question, isIPv4: question.isIPv4)
        let isLoose = question.isIPv4 && filter == 2
        return record.kind == .unicast
            && (isLoose || table.view.bestUses(record, interface: network.near))
    }

    /// The question's number is the last two bytes of the payload.
    private func receive(_ arrived: inout Set<Int>, patience: Int32) {
        var buffer = [UInt8](repeating: 0, count: 256)
        repeat {
            for receiver in receivers {
                while true {
                    let count = recv(receiver.number, &buffer, buffer.count, Int32(MSG_DONTWAIT))
                    guard count >= 8 else { break }
                    arrived.insert(Int(buffer[count - 2]) << 8 | Int(buffer[count - 1]))
                }
            }
        } while Host.waitReadable(receivers.map(\.number), milliseconds: patience).contains(true)
    }

    private static func question(_ number: Int, _ random: inout Random) -> Question {
        let isIPv4 = random.chance(2)
        let (b, c, d) = (random.below(3), random.below(3), random.below(4))
        let host = 2 + random.below(2)
        func bytes(_ text: String) -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: isIPv4 ? 4 : 16)
            inet_pton(isIPv4 ? AF_INET : AF_INET6, text, &bytes)
            return bytes
        }
        let outside = random.chance(20)
        let source = bytes(
            isIPv4
                ? outside ? "172.16.0.\(d)" : "10.\(b).\(c).\(d)"
                : outside ? "2001:db9::\(d)" : "2001:db8:\(b):\(c)::\(d)")
        let destination = bytes(isIPv4 ? "192.0.2.\(host)" : "2001:db8:ff::\(host)")
        let tos = random.pick([0, 0, 0x10, 0x11, 0xb0, 8] as [UInt8])
        let isTCP = random.chance(2)
        let ports = (random.pick([80, 550, 7000] as [UInt16]), random.pick([80, 550, 7000] as [UInt16]))
        let question = ReversePathQuestion(
            source: Address(bytes: source)!, destination: Address(bytes: destination)!, tos: tos,
            protocolNumber: isTCP ? 6 : 17, sourcePort: ports.0, destinationPort: ports.1)
        let transport = transport(isTCP: isTCP, ports, number)
        var header: [UInt8]
        if isIPv4 {
            let length = 20 + transport.count
            header =
                [
                    0x45, tos, UInt8(length >> 8), UInt8(length & 255), 0, 1, 0, 0, 64,
                    isTCP ? 6 : 17, 0, 0,
                ] + source + destination
            let sum = stride(from: 0, to: 20, by: 2).reduce(0) {
                $0 + (Int(header[$1]) << 8 | Int(header[$1 + 1]))
            }
            let folded = ~((sum & 0xffff) + (sum >> 16)) & 0xffff
            (header[10], header[11]) = (UInt8(folded >> 8), UInt8(folded & 255))
        } else {
            header =
                [
                    0x60 | tos >> 4, tos << 4, 0, 0, 0, UInt8(transport.count),
                    isTCP ? 6 : 17, 64,
                ] + source + destination
        }
        let ethernet =
            Network.nearAddress + Network.farAddress
            + (isIPv4 ? [0x08, 0x00] : [0x86, 0xdd])
        return Question(
            question: question, isIPv4: isIPv4, frame: ethernet + header + transport)
    }

    /// A segment or datagram whose payload is the question's number.
    private static func transport(isTCP: Bool, _ ports: (UInt16, UInt16), _ number: Int) -> [UInt8] {
        func big(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
        let payload = big(UInt16(number))
        return big(ports.0) + big(ports.1)
            + (isTCP
                ? [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0] : [0, 10, 0, 0]) + payload
    }
}
