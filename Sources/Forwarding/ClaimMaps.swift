// What the claim program looks up: an interface's claims as the entries of maps.

import IP

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

    private(set) var contents: [FilterMap] = [
        FilterMap(.longestPrefix, "shuck_local4", dataBytes: 4),
        FilterMap(.longestPrefix, "shuck_local6", dataBytes: 16),
        FilterMap(.longestPrefix, "shuck_remote4", dataBytes: 8),
        FilterMap(.longestPrefix, "shuck_remote6", dataBytes: 20),
        FilterMap(.exact, "shuck_own4", dataBytes: 4),
        FilterMap(.exact, "shuck_own6", dataBytes: 16),
        FilterMap(.exact, "shuck_nativesrc", dataBytes: 16),
        FilterMap(.longestPrefix, "shuck_nativedst", dataBytes: 20),
        FilterMap(.longestPrefix, "shuck_ports", dataBytes: 6),
    ]

    subscript(name: Name) -> FilterMap { contents[name.rawValue] }

    init(_ claims: Claims) {
        for local in claims.locals {
            add(
                local.prefix.isIPv4 ? .locals4 : .locals6, bits: local.prefix.length,
                local.prefix.address.bytes,
                value: local.remotes.map { UInt32(truncatingIfNeeded: $0 + 1) } ?? Self.anyone)
        }
        for (index, set) in claims.remotes.enumerated() {
            let number = FilterMap.bytes(of: UInt32(truncatingIfNeeded: index + 1))
            for prefix in set {
                add(
                    prefix.isIPv4 ? .remotes4 : .remotes6, bits: 32 + prefix.length, number,
                    prefix.address.bytes)
            }
        }
        for address in claims.endpoints {
            add(address.isIPv4 ? .endpoints4 : .endpoints6, address.bytes)
        }
        if let native = claims.native { add(native) }
    }

    private mutating func add(_ native: Claims.Native) {
        for source in native.sources { add(.sources, source.bytes) }
        for target in native.targets {
            let value =
                switch target.ports {
                case .never: Self.never
                case .any: Self.anyPort
                case .set(let index): Self.firstPortSet + UInt32(truncatingIfNeeded: index)
                }
            add(
                .targets, bits: 32 + target.prefix.length,
                FilterMap.bytes(of: UInt32(target.protocolNumber)), target.prefix.bytes, value: value)
        }
        for (index, set) in native.portSets.enumerated() {
            let number = FilterMap.bytes(of: Self.firstPortSet + UInt32(truncatingIfNeeded: index))
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
