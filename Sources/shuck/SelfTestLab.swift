// The namespaces of a self-test, with the daemon on the node and the sockets that look on.

import Daemon
import Foundation
import IP
import LinuxIO
import Probing
import SelfTesting
import Settings

/// The user ended the self-test.
struct Interrupted: Error {}

/// All of it ends with the instance, and with the process: no namespace has a name.
final class SelfTestLab {
    let hasIPv6: Bool
    let interruption: Interruption
    /// What the balancer sends, and what comes to it.
    let balancer: ProbeSockets
    /// What comes to the pod.
    let pod: ProbeSockets
    private let directory: SelfTestDirectory
    private let namespaces: [TestNetwork.Place: NetworkNamespace]
    private let encapsulator: Encapsulator
    private var configuration: NodeConfiguration?
    private var daemon: ChildProcess?

    /// Builds the network.
    init(_ interruption: Interruption) throws {
        self.interruption = interruption
        directory = try SelfTestDirectory()
        var made: [TestNetwork.Place: NetworkNamespace] = [:]
        for place in TestNetwork.Place.allCases { made[place] = try .make() }
        namespaces = made
        func inside<R>(_ place: TestNetwork.Place, _ body: () throws -> R) throws -> R {
            try made[place]!.enter(body)
        }
        let hasIPv6 = try inside(.node) { Host.hasSysctl("net.ipv6.conf.all.forwarding") }
        self.hasIPv6 = hasIPv6
        for place in TestNetwork.Place.allCases {
            try inside(place) {
                for (name, value) in TestNetwork.settings(of: place, hasIPv6: hasIPv6) {
                    try Host.setSysctl(name, value)
                }
            }
        }
        try Self.connect(made)
        for place in TestNetwork.Place.allCases {
            try inside(place) { try Self.setUp(place, hasIPv6: hasIPv6) }
        }
        encapsulator = try inside(.balancer) { try Encapsulator(hasIPv6: hasIPv6) }
        func sockets(_ place: TestNetwork.Place) throws -> ProbeSockets {
            try inside(place) {
                // BPF_RET | BPF_K: all bytes of every packet.
                try ProbeSockets(sendsIPv4: true, sendsIPv6: hasIPv6, filter: [0xffff << 32 | 6])
            }
        }
        balancer = try sockets(.balancer)
        pod = try sockets(.pod)
    }

    private static func connect(_ namespaces: [TestNetwork.Place: NetworkNamespace]) throws {
        for wire in TestNetwork.wires {
            let other = VethEnd(name: wire.links[1], mtu: wire.mtu, namespace: namespaces[wire.places[1]])
            // From within: older kernels (6.1) look for a link of the first name where the request comes
            // from, and most hosts have an eth0.
            try namespaces[wire.places[0]]!.enter {
                try NetlinkSocket().addVeth(VethEnd(name: wire.links[0], mtu: wire.mtu), other)
            }
        }
    }

    private static func setUp(_ place: TestNetwork.Place, hasIPv6: Bool) throws {
        let netlink = try NetlinkSocket()
        for link in ["lo"] + links(place) { try netlink.setUp(link) }
        for own in TestNetwork.addresses where own.place == place && (hasIPv6 || own.address.isIPv4) {
            try netlink.addAddress(own.address, length: own.length, to: own.link)
        }
        for route in TestNetwork.routes where route.place == place && (hasIPv6 || route.prefix.isIPv4) {
            try netlink.addRoute(to: route.prefix, via: route.gateway)
        }
    }

    private static func links(_ place: TestNetwork.Place) -> [String] {
        TestNetwork.wires.flatMap { zip($0.places, $0.links).filter { $0.0 == place }.map(\.1) }
    }

    deinit { stop() }

    /// Runs `body` in a namespace.
    func inside<R>(_ place: TestNetwork.Place, _ body: () throws -> R) throws -> R {
        try namespaces[place]!.enter(body)
    }

    /// The paths by which nsenter(1) enters.
    var paths: [(place: String, path: String)] {
        TestNetwork.Place.allCases.map { ($0.rawValue, namespaces[$0]!.path) }
    }

    // MARK: Waiting

    /// Waits until a socket has something, or until the time is over.
    func wait(_ descriptors: [Int32] = [], milliseconds: Int32) throws(Interrupted) {
        _ = Host.waitReadable(descriptors + [interruption.descriptor.number], milliseconds: milliseconds)
        if interruption.isRaised { throw Interrupted() }
    }

    /// Waits until something holds.
    /// - Returns: false: it never did.
    func wait(seconds: Double, until holds: () throws -> Bool) throws -> Bool {
        let end = Host.monotonicNanoseconds() + UInt64(seconds * 1e9)
        while try !holds() {
            if Host.monotonicNanoseconds() > end { return false }
            try wait(milliseconds: 2)
        }
        return true
    }

    // MARK: The daemon

    var socket: String { directory.path + "/shuck.sock" }
    var client: AdminClient { AdminClient(socketPath: socket) }
    private var configurationPath: String { directory.path + "/shuck.yaml" }

    func write(_ configuration: NodeConfiguration) throws {
        let cpu = Placement.allowedCPUs().first ?? 0
        try write(text: configuration.text(socket: socket, cpu: cpu, hasIPv6: hasIPv6))
        self.configuration = configuration
    }

    /// Writes the file alone.
    func write(text: String) throws {
        try directory.write("shuck.yaml", text)
        configuration = nil
    }

    /// Starts the daemon and waits until it forwards.
    func start(_ configuration: NodeConfiguration) throws {
        for place in TestNetwork.Place.allCases {
            let areRunning = try wait(seconds: 5) {
                try inside(place) { try NetlinkSocket().areRunning(Self.links(place)) }
            }
            if !areRunning { throw Failure(message: "the links of the \(place) have no carrier") }
        }
        try write(configuration)
        let child = try start(.node, ["run", "--config", configurationPath], output: "log")
        daemon = child
        let isReady = try wait(seconds: 10) {
            guard child.isRunning else { throw Failure(code: .notHere, message: "shuck ended: \(lastLines)") }
            return (try? client.request("GET", "/readyz").status) == 200
        }
        if !isReady { throw Failure(message: "shuck was not ready within 10 s: \(lastLines)") }
    }

    /// Starts a verb of this binary in a namespace.
    func start(verb words: [String], in place: TestNetwork.Place) throws -> ChildProcess {
        try start(place, words, output: "verb")
    }

    /// What the verb printed.
    var printed: String { directory.text("verb").split(separator: "\n").joined(separator: "; ") }

    private func start(
        _ place: TestNetwork.Place, _ words: [String], output: String
    ) throws -> ChildProcess {
        let path = "\(directory.path)/\(output)"
        // Without the variables of a service manager, which are for this process.
        return try ChildProcess(
            [Program.path(), "selftest-child", "\(getpid())", namespaces[place]!.path] + words,
            output: (path, path), environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], hasOwnGroup: true)
    }

    /// Of the daemon's log.
    private var lastLines: String {
        directory.text("log").split(separator: "\n").suffix(3).joined(separator: "\n")
    }

    /// Lets the daemon run with a configuration.
    func configure(_ configuration: NodeConfiguration) throws {
        guard configuration != self.configuration else { return }
        try write(configuration)
        let answer = try client.request("POST", "/reload", seconds: 20)
        guard answer.status != 200 else { return }
        self.configuration = nil
        let problems = answer.body.split(separator: "\n").joined(separator: "; ")
        throw Failure(message: "the configuration was refused: \(problems)")
    }

    func status() throws -> StatusReport {
        try JSONDecoder().decode(StatusReport.self, from: Data(client.get("/status").utf8))
    }

    /// Ends the daemon as a service manager does.
    private func stop() {
        guard let daemon else { return }
        daemon.signal(SIGTERM)
        for _ in 0..<500 where daemon.isRunning { Host.pause(milliseconds: 10) }
        daemon.end()
    }

    // MARK: Packets

    /// Sends a packet with an outer header from the balancer.
    func send(_ packet: [UInt8]) -> Int32 {
        let isIPv4 = packet.first.map { $0 >> 4 } == 4
        return balancer.send(packet, to: TestNetwork.of(TestNetwork.node, isIPv4: isIPv4).bytes)
    }

    /// Forgets what has come so far.
    func forget() {
        for sockets in [balancer, pod] { sockets.receive { _ in } }
    }

    /// What came to the balancer that a probe may wait for.
    func answers() -> [ProbeAnswer] {
        var answers: [ProbeAnswer] = []
        balancer.receive { memory in
            guard let base = memory.baseAddress,
                let answer = ProbeAnswer.read(Bytes(base, count: memory.count))
            else { return }
            answers.append(answer)
        }
        return answers
    }

    /// Sets the MTU of the pod's link on both sides.
    func setPodMTU(_ mtu: Int) throws {
        try inside(.node) { try NetlinkSocket().setUp("cali0", mtu: mtu) }
        try inside(.pod) { try NetlinkSocket().setUp("eth0", mtu: mtu) }
    }
}
