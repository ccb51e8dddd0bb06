// What a configuration needs of a host, one value for each thing that is opened, set or claimed.

import Forwarding
import IP
import Routing
import Settings

/// A thing of the host that shuck holds while it runs.
public enum Resource: Sendable, Equatable, Codable {
    /// The rings of one interface, one for each worker.
    public struct Rings: Sendable, Equatable, Codable {
        public let interface: String
        public let index: Int32
        public let hardwareType: UInt16
        /// The CPU of each ring's worker.
        public let cpus: [Int]
        /// Bytes, a power of two.
        public let slotBytes: Int
        public let slotCount: Int
    }

    public struct Device: Sendable, Hashable, Codable {
        public struct Namespace: Sendable, Hashable, Codable {
            public let path: String
            public let identity: NamespaceIdentity
        }
        public let name: String
        /// One for each worker.
        public let queues: Int
        /// nil: it stands in the daemon's own.
        public let namespace: Namespace?
    }

    public struct Claim: Sendable, Equatable, Codable {
        public let interface: String
        public let index: Int32
        public let claims: Claims
        /// Raw sockets will not do: without tcx a filter is used that outlives a killed process.
        public let isRequired: Bool
    }

    /// Keeps a second shuck off an interface.
    case hold(interface: String, index: Int32)
    case rings(Rings)
    case device(Device)
    /// MTU, address, loose reverse path and up.
    case settings(Device, mtu: Int, address: Prefix)
    /// Sockets that send ICMP errors for devices in other namespaces.
    case errors(Configuration.ICMP)
    /// Packets that the kernel routes to the device are read.
    case reading(Device)
    /// Sends answers to probes out of an interface.
    case returnSocket(interface: String, index: Int32)
    /// Leads answers to a rewritten address to the device that is read.
    case returnRoute(Address, Device)
    /// Lets tunnel frames into the rings, and native probes of these sources.
    case filter(interface: String, index: Int32, natives: Set<Address>)
    /// A program that keeps the kernel from answering for our frames.
    case claim(Claim)
    /// Raw sockets of these addresses that do the same, 4 or 16 bytes each.
    case socketClaim([[UInt8]])
    /// Chains of nft(8) that clamp what pods answer.
    case replyTable(chains: String)

    /// What there is one of at a time.
    public enum Key: Sendable, Hashable {
        case hold(Int32)
        case rings(String)
        case device(String)
        case settings(String)
        case errors
        case reading
        case returnSocket(String)
        case returnRoute(Address)
        case filter(String)
        case claim(String)
        case socketClaim
        case replyTable
    }

    public var key: Key {
        switch self {
        case .hold(_, let index): .hold(index)
        case .rings(let rings): .rings(rings.interface)
        case .device(let device): .device(device.name)
        case .settings(let device, _, _): .settings(device.name)
        case .errors: .errors
        case .reading: .reading
        case .returnSocket(let interface, _): .returnSocket(interface)
        case .returnRoute(let address, _): .returnRoute(address)
        case .filter(let interface, _, _): .filter(interface)
        case .claim(let claim): .claim(claim.interface)
        case .socketClaim: .socketClaim
        case .replyTable: .replyTable
        }
    }

    /// What opens or fails together.
    public var part: Part {
        switch self {
        case .hold(let interface, _), .filter(let interface, _, _): .interface(interface)
        case .rings(let rings): .interface(rings.interface)
        case .device(let device), .settings(let device, _, _): .device(device.name)
        case .errors: .errors
        case .reading, .returnSocket, .returnRoute: .answers
        case .claim(let claim): claim.isRequired ? .claims : .claim(claim.interface)
        case .socketClaim: .claims
        case .replyTable: .replyTable
        }
    }

    /// What must be there before it.
    public var requirement: Key? {
        switch self {
        case .settings(let device, _, _), .reading(let device), .returnRoute(_, let device):
            .device(device.name)
        case .filter(let interface, _, _): .rings(interface)
        case .claim(let claim): .rings(claim.interface)
        default: nil
        }
    }

    /// Whether what is there becomes this by a change; else this is opened beside it.
    func isChange(of old: Resource) -> Bool {
        switch (old, self) {
        case (.settings(let before, _, _), .settings(let after, _, _)): before == after
        case (.filter(_, let before, _), .filter(_, let after, _)): before == after
        case (.replyTable, .replyTable): true
        default: false
        }
    }
}

extension Resource {
    /// Whether this does for the wanted one while that cannot be had.
    func standsIn(for wanted: Resource) -> Bool {
        switch (self, wanted) {
        case (.claim(let old), .claim(let new)): old.index == new.index
        case (.socketClaim, .socketClaim): true
        default: self == wanted || wanted.isChange(of: self)
        }
    }
}
