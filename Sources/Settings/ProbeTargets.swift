// ProbeTargets, the services and realservers that `shuck probe` asks, as a file lists them.

import Forwarding
import IP
import Probing

public struct ProbeTargets: Sendable {
    /// A node, by its outer addresses.
    struct Realserver: Sendable {
        var name: String
        var addresses: [Address] = []
    }

    struct Service: Sendable {
        var name: String
        var addresses: [Address] = []
        var probeProtocol = ProbeProtocol.tcp
        /// None with ICMP.
        var ports: [Int] = []
        /// nil: on all.
        var realservers: [String]?
    }

    /// At most one of each family, as `innerSources`.
    var outerSources: [Address] = []
    var innerSources: [Address] = []
    var modes = Mode.allCases
    var realservers: [Realserver] = []
    var services: [Service] = []

    /// A service on a realserver, by one address of each.
    public struct Tuple: Sendable {
        public let service: String
        public let realserver: String
        public let flow: ProbeFlow
    }

    /// Every service address and port on every realserver address, in each mode that is asked for.
    public var tuples: [Tuple] {
        services.flatMap { service in
            let hosts = realservers.filter { service.realservers?.contains($0.name) ?? true }
            return service.addresses.flatMap { inner in
                (service.ports.isEmpty ? [0] : service.ports).flatMap { port in
                    hosts.flatMap { host in
                        host.addresses.compactMap { tuple(service, host, inner, $0, UInt16(clamping: port)) }
                    }
                }
            }
        }
    }

    /// Bounds the memory of a run.
    static let tuplesMax = 65_536

    /// How many `tuples` has, without making them.
    var tupleCount: Int {
        services.reduce(0) { sum, service in
            let hosts = realservers.filter { service.realservers?.contains($0.name) ?? true }
            let outer = hosts.flatMap(\.addresses)
            let pairs = Set(modes).filter { mode in
                outerSources.contains { $0.isIPv4 == mode.outerIsIPv4 }
                    && innerSources.contains { $0.isIPv4 == mode.innerIsIPv4 }
            }.reduce(0) { sum, mode in
                sum + service.addresses.count { $0.isIPv4 == mode.innerIsIPv4 }
                    * outer.count { $0.isIPv4 == mode.outerIsIPv4 }
            }
            return sum + pairs * max(service.ports.count, 1)
        }
    }

    private func tuple(
        _ service: Service, _ realserver: Realserver, _ inner: Address, _ outer: Address, _ port: UInt16
    ) -> Tuple? {
        guard let outerSource = outerSources.first(where: { $0.isIPv4 == outer.isIPv4 }),
            let innerSource = innerSources.first(where: { $0.isIPv4 == inner.isIPv4 })
        else { return nil }
        let flow = ProbeFlow(
            outerSource: outerSource, outerDestination: outer, innerSource: innerSource,
            innerDestination: inner, probeProtocol: service.probeProtocol, port: port)
        return modes.contains(flow.mode)
            ? Tuple(service: service.name, realserver: realserver.name, flow: flow) : nil
    }
}
