// What the claim program looks up: `Policy.Claims` in bytes, and the maps that hold it.

import CLinux

/// The tables of one interface's claims, addresses in network order. No bound on their length
/// but the kernel's memory.
public struct ClaimTables: Sendable, Equatable {
    public struct Network: Sendable, Equatable {
        /// 4 or 16 bytes.
        public var bytes: [UInt8]
        public var length: Int
        public init(bytes: [UInt8], length: Int) {
            self.bytes = bytes
            self.length = length
        }
    }
    public struct Local: Sendable, Equatable {
        public var network: Network
        /// Index into `remotes`; nil: claimed from anyone.
        public var remotes: Int?
        public init(network: Network, remotes: Int?) {
            self.network = network
            self.remotes = remotes
        }
    }
    /// Native IPv6 frames.
    public struct Native: Sendable, Equatable {
        public enum Ports: Sendable, Equatable {
            case never
            case any
            /// Index into `portSets`.
            case set(Int)
        }
        public struct Target: Sendable, Equatable {
            public var network: Network
            /// TCP, UDP or ICMPv6.
            public var protocolNumber: UInt8
            public var ports: Ports
            public init(network: Network, protocolNumber: UInt8, ports: Ports) {
                self.network = network
                self.protocolNumber = protocolNumber
                self.ports = ports
            }
        }
        /// 16 bytes each, all different.
        public var sources: [[UInt8]]
        /// The longest prefix decides.
        public var targets: [Target]
        /// Ranges of a set do not overlap.
        public var portSets: [[ClosedRange<UInt16>]]
        public init(
            sources: [[UInt8]], targets: [Target], portSets: [[ClosedRange<UInt16>]] = []
        ) {
            self.sources = sources
            self.targets = targets
            self.portSets = portSets
        }
    }
    /// The longest prefix decides.
    public var locals: [Local]
    public var remotes: [[Network]]
    /// Sources that are never claimed where a set of `remotes` counts; all different.
    public var endpoints: [[UInt8]]
    public var native: Native?
    public init(
        locals: [Local], remotes: [[Network]] = [], endpoints: [[UInt8]] = [],
        native: Native? = nil
    ) {
        self.locals = locals
        self.remotes = remotes
        self.endpoints = endpoints
        self.native = native
    }
}

/// The maps of one claim program.
struct ClaimMaps {
    enum Name: Int, CaseIterable {
        case locals4, locals6, remotes4, remotes6, endpoints4, endpoints6
        case sources, targets, ports
    }
    /// Values of `locals`: from anyone, or one more than the index of a set.
    static let anyone: UInt32 = 0
    /// Values of `targets`; what is above is a set of ports.
    static let never: UInt32 = 0
    static let anyPort: UInt32 = 1
    static let firstPortSet: UInt32 = 2

    private(set) var contents: [MapContents] = [
        MapContents(.longestPrefix, "shuck_local4", dataBytes: 4),
        MapContents(.longestPrefix, "shuck_local6", dataBytes: 16),
        MapContents(.longestPrefix, "shuck_remote4", dataBytes: 8),
        MapContents(.longestPrefix, "shuck_remote6", dataBytes: 20),
        MapContents(.exact, "shuck_own4", dataBytes: 4),
        MapContents(.exact, "shuck_own6", dataBytes: 16),
        MapContents(.exact, "shuck_nativesrc", dataBytes: 16),
        MapContents(.longestPrefix, "shuck_nativedst", dataBytes: 20),
        MapContents(.longestPrefix, "shuck_ports", dataBytes: 6),
    ]

    subscript(name: Name) -> MapContents { contents[name.rawValue] }

    init(_ tables: ClaimTables) {
        func isIPv4(_ bytes: [UInt8]) -> Bool { bytes.count == 4 }
        for local in tables.locals {
            let network = local.network
            add(
                isIPv4(network.bytes) ? .locals4 : .locals6, bits: network.length, network.bytes,
                value: local.remotes.map { UInt32(truncatingIfNeeded: $0 + 1) } ?? Self.anyone)
        }
        for (index, set) in tables.remotes.enumerated() {
            let number = bytes(of: UInt32(truncatingIfNeeded: index + 1))
            for network in set {
                add(
                    isIPv4(network.bytes) ? .remotes4 : .remotes6, bits: 32 + network.length,
                    number, network.bytes)
            }
        }
        for address in tables.endpoints {
            add(isIPv4(address) ? .endpoints4 : .endpoints6, address)
        }
        if let native = tables.native { add(native) }
    }

    private mutating func add(_ native: ClaimTables.Native) {
        for source in native.sources { add(.sources, source) }
        for target in native.targets {
            let value =
                switch target.ports {
                case .never: Self.never
                case .any: Self.anyPort
                case .set(let index): Self.firstPortSet + UInt32(truncatingIfNeeded: index)
                }
            add(
                .targets, bits: 32 + target.network.length,
                bytes(of: UInt32(target.protocolNumber)), target.network.bytes, value: value)
        }
        for (index, set) in native.portSets.enumerated() {
            let number = bytes(of: Self.firstPortSet + UInt32(truncatingIfNeeded: index))
            for block in set.flatMap(Self.blocks) {
                add(
                    .ports, bits: 32 + block.length, number,
                    [UInt8(block.port >> 8), UInt8(truncatingIfNeeded: block.port)])
            }
        }
    }

    private mutating func add(
        _ name: Name, bits: Int = 0, _ first: [UInt8], _ second: [UInt8] = [], value: UInt32 = 1
    ) {
        contents[name.rawValue].add(bits: bits, first, second, value: value)
    }

    /// A range of ports as prefixes of 16 bits.
    static func blocks(_ range: ClosedRange<UInt16>) -> [(port: UInt16, length: Int)] {
        var result: [(port: UInt16, length: Int)] = []
        var port = Int(range.lowerBound)
        let last = Int(range.upperBound)
        while port <= last {
            var bits = port == 0 ? 16 : port.trailingZeroBitCount
            while port + (1 << bits) - 1 > last { bits -= 1 }
            result.append((UInt16(port), 16 - bits))
            port += 1 << bits
        }
        return result
    }
}
