// ProbeFlow, the four addresses and the service that a probe asks.

import Forwarding
import IP

/// The way of a probe: from a balancer to a node, and inside from a client to a service.
public struct ProbeFlow: Hashable, Sendable {
    public var outerSource: Address
    /// Of the outer source's family.
    public var outerDestination: Address
    public var innerSource: Address
    /// Of the inner source's family.
    public var innerDestination: Address
    public var probeProtocol: ProbeProtocol
    /// 0 with ICMP.
    public var port: UInt16

    public init(
        outerSource: Address, outerDestination: Address, innerSource: Address, innerDestination: Address,
        probeProtocol: ProbeProtocol, port: UInt16
    ) {
        self.outerSource = outerSource
        self.outerDestination = outerDestination
        self.innerSource = innerSource
        self.innerDestination = innerDestination
        self.probeProtocol = probeProtocol
        self.port = port
    }

    public var mode: Mode {
        switch (outerDestination.isIPv4, innerDestination.isIPv4) {
        case (true, true): .ipip
        case (true, false): .ip6ip
        case (false, true): .ipip6
        case (false, false): .ip6ip6
        }
    }

    public var outerHeaderBytes: Int {
        outerDestination.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
    }

    public var innerHeaderBytes: Int {
        innerDestination.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
    }

    /// Bytes of the smallest inner packet: both headers, and a text in a datagram, which some services
    /// ignore when it is empty.
    public var smallestPacket: Int {
        innerHeaderBytes + probeProtocol.headerBytes + (probeProtocol == .tcp ? 0 : Self.text.utf8.count)
    }

    static let text = "shuck probe"

    /// The largest MSS with which an encapsulated segment fits a link.
    public func fittingMSS(linkMTU: Int) -> Int { linkMTU - mode.headerBytes }
}
