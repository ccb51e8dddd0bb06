// The segments and datagrams of a flow: Blocks of addresses, SegmentText.

import Forwarding
import IP
import TestPackets

/// The addresses that Tests/Model draws from, so that its random packets meet these policies.
enum Blocks {
    static func local(_ isIPv4: Bool, _ host: Int) -> [UInt8] { address(isIPv4, [192, 0, 2], host) }
    /// Of two networks, the second from host 32 on.
    static func remote(_ isIPv4: Bool, _ host: Int) -> [UInt8] {
        address(isIPv4, [198, 51, UInt8(100 + host / 32)], host % 32)
    }
    static func pod(_ isIPv4: Bool, _ host: Int) -> [UInt8] { address(isIPv4, [10, 2, 1], host) }
    static func client(_ isIPv4: Bool, _ host: Int) -> [UInt8] { address(isIPv4, [203, 0, 113], host) }

    private static func address(_ isIPv4: Bool, _ network: [UInt8], _ host: Int) -> [UInt8] {
        if isIPv4 { return network + [UInt8(host)] }
        return [0x20, 0x01, 0x0d, 0xb8, 0] + network + [UInt8](repeating: 0, count: 7) + [UInt8(host)]
    }
}

/// A segment of TCP or a datagram of UDP, in words.
struct SegmentText {
    /// Ways to differ from the ordinary segment.
    enum Oddity: CaseIterable {
        case short, last, opening, badChecksum, bare, innerFragment, large, segmented
    }

    var isTCP: Bool
    var payload: Int
    var isUnfinished = false
    var flags: UInt8 = 0x10
    var options: [UInt8] = []
    var hasBadChecksum = false
    /// UDP without a checksum.
    var isBare = false
    var isFragment = false
    /// Of a frame that GRO joined.
    var segmentSize = 0

    mutating func change(_ kind: Oddity, _ size: Int) {
        switch kind {
        case .short: payload = max(1, size / 2)
        case .last: flags = 0x18
        case .opening:
            if isTCP { (flags, options, payload) = (0x02, mss(1460), 0) }
        case .badChecksum: (hasBadChecksum, isUnfinished) = (true, false)
        case .bare: (isBare, isUnfinished) = (!isTCP, false)
        case .innerFragment: (isFragment, isUnfinished) = (true, false)
        case .large: (payload, isUnfinished) = (3000, false)
        case .segmented: (payload, segmentSize, isUnfinished) = (4 * 1000 + 1, 1000, true)
        }
    }

    func template(
        _ outer: IPHeader, _ inner: IPHeader, _ mode: Mode, _ interface: Int, _ flow: Int, _ port: UInt16
    ) -> Template {
        var inner = inner
        if isFragment && inner.isIPv4 { inner.fragment = 0x2000 }
        let content = [UInt8](repeating: UInt8(flow & 255), count: payload)
        let tagged = [UInt8](repeating: 0, count: min(8, payload)) + content.dropFirst(8)
        let hasTag = payload >= 8
        let text = hasTag ? tagged : content
        var upper =
            isTCP
            ? TCPSegment(
                sourcePort: port, flags: flags, options: options, payload: text, sequence: 0
            ).segment(inner)
            : udp(inner, from: port, to: 80, text)
        let transport = inner.isIPv4 ? 20 : 40
        let field = isTCP ? 16 : 6
        func put(_ value: UInt16) { upper.replaceSubrange(field..<(field + 2), with: word(value)) }
        if hasBadChecksum { put((UInt16(upper[field]) << 8 | UInt16(upper[field + 1])) ^ 0x0101) }
        if isBare { put(0) }
        if isUnfinished {
            put(sum(inner.addressBytes + word(UInt16(upper.count)) + word(UInt16(inner.protocolNumber))))
        }
        let isTold = isBare || isUnfinished
        let headers = transport + (isTCP ? 20 + options.count : 8)
        let layout = Layout(
            identification: inner.isIPv4 ? 4 : nil, sequence: isTCP ? transport + 4 : nil,
            tag: hasTag ? headers : nil, checksum: isTold ? nil : transport + field, isUDP: !isTCP)
        let strip = outer.isIPv4 ? 20 : 40
        return Template(
            outer.packet(inner.packet(upper)), innerOffset: strip, layout: layout,
            etherType: outer.isIPv4 ? 0x0800 : 0x86dd, interface: interface,
            vnet: vnet(inner, start: 14 + strip + transport, headers: 14 + strip + headers), flow: flow,
            step: isTCP ? payload : 0, hidesPorts: isFragment && inner.isIPv4)
    }

    private func vnet(_ inner: IPHeader, start: Int, headers: Int) -> VirtioHeader {
        guard isUnfinished else { return VirtioHeader() }
        return VirtioHeader(
            flags: VirtioHeader.needsChecksum,
            gsoType: segmentSize == 0 ? 0 : !isTCP ? 5 : inner.isIPv4 ? 1 : 4,
            headerLength: UInt16(headers), gsoSize: UInt16(segmentSize), checksumStart: UInt16(start),
            checksumOffset: isTCP ? 16 : 6)
    }
}
