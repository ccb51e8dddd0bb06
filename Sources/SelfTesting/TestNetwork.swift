// TestNetwork, the namespaces of a self-test as values: links, addresses, routes.

import Forwarding
import IP
import Settings

/// Client, balancer, node and pod. The pod owns the services' addresses, so its answers leave the node
/// without encapsulation: direct server return.
public enum TestNetwork {
    public enum Place: String, CaseIterable, Sendable { case client, balancer, node, pod }

    /// A veth pair.
    public struct Wire: Sendable {
        public let places: [Place]
        public let links: [String]
        public let mtu: Int
    }

    /// The pod's link is smaller than the node's, so that all four encapsulations of what it announces fit.
    public static let podMTU = 1460

    public static let wires = [
        Wire(places: [.client, .balancer], links: ["eth0", "front"], mtu: 1500),
        Wire(places: [.balancer, .node], links: ["back", "eth0"], mtu: 1500),
        Wire(places: [.balancer, .node], links: ["back1", "eth1"], mtu: 1500),
        Wire(places: [.node, .pod], links: ["cali0", "eth0"], mtu: podMTU),
    ]

    /// The balancer's device, to which its kernel routes what is to be encapsulated. Its MTU leaves room for
    /// the longest outer header.
    public static let encapsulator = "encap0"
    public static let encapsulatorMTU = 1460

    public static let client = [address("198.51.100.2"), address("2001:db8:c::2")]
    public static let front = [address("198.51.100.1"), address("2001:db8:c::1")]
    public static let balancer = [address("192.0.2.1"), address("2001:db8:1::1")]
    public static let node = [address("192.0.2.2"), address("2001:db8:1::2")]
    public static let gateway = [address("10.2.1.1"), address("2001:db8:2::1")]
    public static let pod = [address("10.2.1.9"), address("2001:db8:2::9")]
    /// A second link between balancer and node, through which nothing is sent.
    static let otherBalancer = [address("192.0.3.1"), address("2001:db8:3::1")]
    static let otherNode = [address("192.0.3.2"), address("2001:db8:3::2")]
    /// Routed to the pod, so that packets from there must not come from the balancer.
    public static let behindPod = [address("198.51.101.1"), address("2001:db8:c:1::1")]
    /// Routed through the second link.
    public static let behindOther = [address("198.51.102.1"), address("2001:db8:c:2::1")]
    /// Only the default route leads there.
    public static let far = [address("198.51.103.1"), address("2001:db8:d::1")]

    /// The service that is reached by a mode.
    public static func service(_ mode: Mode) -> Address {
        switch mode {
        case .ipip: address("203.0.113.4")
        case .ipip6: address("203.0.113.6")
        case .ip6ip, .native: address("2001:db8:f::4")
        case .ip6ip6: address("2001:db8:f::6")
        }
    }

    /// How packets to a service are encapsulated; nil: it is no service.
    public static func mode(of service: Address) -> Mode? {
        Mode.allCases.first { self.service($0) == service }
    }

    /// Of each pair above the one of a family.
    public static func of(_ pair: [Address], isIPv4: Bool) -> Address { pair[isIPv4 ? 0 : 1] }

    /// An address of a link, with the prefix that is on the link.
    public struct LinkAddress: Sendable {
        public let place: Place
        public let link: String
        public let address: Address
        public let length: Int
    }

    public static let addresses: [LinkAddress] = {
        let pairs: [(Place, String, [Address])] = [
            (.client, "eth0", client), (.balancer, "front", front), (.balancer, "back", balancer),
            (.balancer, "back1", otherBalancer), (.node, "eth1", otherNode),
            (.node, "eth0", node), (.node, "cali0", gateway), (.pod, "eth0", pod),
        ]
        let links = pairs.flatMap { place, link, pair in
            pair.map { LinkAddress(place: place, link: link, address: $0, length: $0.isIPv4 ? 24 : 64) }
        }
        let services = Mode.allCases.map { mode in
            let address = service(mode)
            return LinkAddress(
                place: .pod, link: "lo", address: address, length: address.isIPv4 ? 32 : 128)
        }
        return links + services
    }()

    public struct Route: Sendable {
        public let place: Place
        public let prefix: Prefix
        /// nil: `link` leads there.
        public let gateway: Address?
        public let link: String?
    }

    public static let routes: [Route] = {
        let defaults = [Place.client: front, .node: balancer, .pod: gateway]
        return [true, false].flatMap { isIPv4 -> [Route] in
            let all = isIPv4 ? Prefix.allIPv4 : .allIPv6
            let hop = of(pod, isIPv4: isIPv4)
            func network(_ pair: [Address]) -> [Prefix] {
                [Prefix(of(pair, isIPv4: isIPv4), length: isIPv4 ? 24 : 64)].compactMap(\.self)
            }
            let services = Mode.allCases.map(service).filter { $0.isIPv4 == isIPv4 }.map(Prefix.init(host:))
            let toPod = (services + network(behindPod)).map { ($0, hop) }
            let toOther = network(behindOther).map { ($0, of(otherBalancer, isIPv4: isIPv4)) }
            return defaults.map {
                Route(place: $0, prefix: all, gateway: of($1, isIPv4: isIPv4), link: nil)
            } + (toPod + toOther).map { Route(place: .node, prefix: $0, gateway: $1, link: nil) }
        }
    }()

    /// To the balancer's device, once it is there.
    public static let encapsulated: [Prefix] = [
        Prefix(address("203.0.113.0"), length: 24), Prefix(address("2001:db8:f::"), length: 64),
    ].compactMap(\.self)

    /// What is set before the links are made, which take it over. Without duplicate address detection an
    /// address is usable at once; nothing is sent that nobody asked for.
    public static func settings(of place: Place, hasIPv6: Bool) -> [(name: String, value: String)] {
        var settings: [(String, String)] = [
            // The kernel of the node must not fall silent where its silence is a result.
            ("net.ipv4.icmp_ratelimit", "0"), ("net.ipv4.ping_group_range", "0 2147483647"),
        ]
        for scope in ["all", "default"] {
            settings.append(("net.ipv4.conf.\(scope).rp_filter", "0"))
            guard hasIPv6 else { continue }
            settings += [
                ("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0"),
                ("disable_ipv6", "0"),
            ].map { ("net.ipv6.conf.\(scope).\($0.0)", $0.1) }
        }
        if hasIPv6 { settings.append(("net.ipv6.icmp.ratelimit", "0")) }
        guard place == .balancer || place == .node else { return settings }
        settings.append(("net.ipv4.ip_forward", "1"))
        if hasIPv6 { settings.append(("net.ipv6.conf.all.forwarding", "1")) }
        return settings
    }

    /// Of a text above, which is an address.
    private static func address(_ text: String) -> Address { Address(text)! }
}
