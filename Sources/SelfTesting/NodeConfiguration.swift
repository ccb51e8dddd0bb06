// NodeConfiguration, what shuck on the node is configured with.

import Forwarding
import IP
import Settings

/// The part of the node's configuration that tests differ in.
public struct NodeConfiguration: Hashable, Sendable {
    public var modes = Mode.allCases
    /// Services that are allowed, by the mode that reaches them.
    public var services = Mode.allCases
    /// nil: all of the services'.
    public var ports: [UInt16]?
    public var reversePath = "strict"
    public var interfaces = ["eth0"]
    /// Without it each packet arrives alone.
    public var coalesces = false
    /// Whether a rule of nftables clamps what the pod answers.
    public var clampsReplies = false

    public init() {}

    /// - Parameters:
    ///   - socket: of the daemon's admin endpoint.
    ///   - cpu: of its only worker, so that packets keep their order.
    ///   - hasIPv6: whether this host has it.
    public func text(socket: String, cpu: Int, hasIPv6: Bool) -> String {
        func list(_ items: [String]) -> String { "[" + items.joined(separator: ", ") + "]" }
        func own(_ pair: [Address]) -> String {
            list(pair.prefix(hasIPv6 ? 2 : 1).map { "\"\($0.text)\"" })
        }
        func usable(_ modes: [Mode]) -> [Mode] {
            modes.filter { hasIPv6 || $0.outerIsIPv4 && $0.innerIsIPv4 }
        }
        let ports = ports.map { ", protocol: udp, ports: \(list($0.map { "\($0)" }))" } ?? ""
        let destinations = usable(services).map { mode in
            "      - {prefix: \"\(Prefix(host: TestNetwork.service(mode)).text)\"\(ports)}"
        }
        return """
            interfaces: \(list(interfaces))
            tunnels:
              - name: selftest
                interfaces: [eth0]
                local: \(own(TestNetwork.node))
                remotes: \(own(TestNetwork.balancer))
                modes: \(list(usable(modes).map(\.name)))
                destinations:
            \(destinations.joined(separator: "\n"))
            reversePath: {mode: \(reversePath)}
            mss: {replies: \(clampsReplies ? "nft" : "off")}
            workers: {cpus: "\(cpu)", coalesce: \(coalesces ? "on" : "off")}
            admin: {socket: "\(socket)"}

            """
    }
}
