// Packets that are too big for a pod's device, and the ICMP errors about them, byte by byte.

import Forwarding

extension Model {
    enum TooBig {
        case silent
        case answered([UInt8])
    }

    /// M1 to M3; nil when the device takes the packet, or the kernel sees to it.
    func tooBig(
        _ frame: Arrival, _ inner: InnerPacket, _ mode: Mode, _ destination: Destination
    ) -> TooBig? {
        let device = policy.devices[destination.device]
        guard device.isElsewhere, largestSegment(frame, inner) > device.mtu else { return nil }
        // No IPv6 sender is told of less than 1280 bytes (RFC 8200 §5), and an error to a
        // link-local source would need a link.
        guard isAnswered(frame, inner), inner.isIPv4 || device.mtu >= 1280,
            rewriteRule(inner, frame.interface) == nil
        else { return .silent }
        return .answered(error(inner, mtu: device.mtu, frameLength: frame.bytes.count))
    }

    private func largestSegment(_ frame: Arrival, _ inner: InnerPacket) -> Int {
        guard frame.vnet.gsoType != 0 else { return inner.bytes.count }
        let isTCP = inner.protocolNumber == Upper.tcp && inner.transportLength >= 20
        let header = isTCP ? Int(inner.bytes[inner.transport + 12] >> 4) * 4 : 8
        return min(inner.transport + header + Int(frame.vnet.gsoSize), inner.bytes.count)
    }

    private func headerLength(_ inner: InnerPacket) -> Int {
        inner.isIPv4 ? Int(inner.bytes[0] & 15) * 4 : 40
    }

    /// RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e): not about errors, later fragments, and what many or
    /// nobody sent or gets; and not where the shortest error would be longer than the frame.
    private func isAnswered(_ frame: Arrival, _ inner: InnerPacket) -> Bool {
        let shortest = (inner.isIPv4 ? 20 : 40) + 8 + headerLength(inner) + 8
        guard frame.bytes.count >= shortest, !inner.isLaterFragment else { return false }
        let (source, destination) = (inner.source, inner.destination)
        let type = inner.transportLength > 0 ? inner.bytes[inner.transport] : nil
        if inner.isIPv4 {
            let mayBeCut = inner.bytes[6] & 0x40 == 0
            let isQuery = type.map { [0, 8, 9, 10, 13, 14, 15, 16, 17, 18].contains($0) } ?? false
            if mayBeCut || (inner.protocolNumber == Upper.icmp && !isQuery) { return false }
            return source[0] != 0 && source[0] != 127 && source[0] < 224 && destination[0] < 224
        }
        let isError = type.map { $0 < 128 || $0 == 137 } ?? true
        if inner.protocolNumber == Upper.icmpv6 && isError { return false }
        let isUnspecifiedOrLoopback = source[..<15].allSatisfy { $0 == 0 } && source[15] <= 1
        return source[0] != 255 && destination[0] != 255 && !isUnspecifiedOrLoopback
    }

    /// RFC 1191 §4 in at most 576 bytes, RFC 4443 §3.2 in at most 1280.
    private func error(_ inner: InnerPacket, mtu: Int, frameLength: Int) -> [UInt8] {
        let header = inner.isIPv4 ? 20 : 40
        var quoted = min(inner.bytes.count, (inner.isIPv4 ? 576 : 1280) - header - 8)
        // Never longer than what came: then only what tells the sender which packet it was.
        if header + 8 + quoted > frameLength {
            quoted = min(inner.bytes.count, headerLength(inner) + 8)
        }
        let (high, low) = (UInt8(min(mtu, 0xffff) / 256), UInt8(min(mtu, 0xffff) % 256))
        var message: [UInt8] = (inner.isIPv4 ? [3, 4] : [2, 0]) + [0, 0, 0, 0, high, low]
        message += inner.bytes[..<quoted]
        let length = inner.isIPv4 ? 20 + message.count : message.count
        let (lengthHigh, lengthLow) = (UInt8(length / 256), UInt8(length % 256))
        if inner.isIPv4 {
            fill(&message, at: 2, with: onesComplementSum(message))
            var packet: [UInt8] = [0x45, 0xc0, lengthHigh, lengthLow, 0, 0, 0, 0, 64, 1, 0, 0]
            packet += Answer.ownIPv4 + inner.source
            fill(&packet, at: 10, with: onesComplementSum(packet))
            return packet + message
        }
        let pseudo = Answer.ownIPv6 + inner.source + [0, 0, lengthHigh, lengthLow, 0, 0, 0, 58]
        fill(&message, at: 2, with: onesComplementSum(pseudo + message))
        let packet: [UInt8] = [0x60, 0, 0, 0, lengthHigh, lengthLow, 58, 64]
        return packet + Answer.ownIPv6 + inner.source + message
    }

    private func fill(_ bytes: inout [UInt8], at place: Int, with sum: Int) {
        bytes[place] = UInt8((0xffff - sum) / 256)
        bytes[place + 1] = UInt8((0xffff - sum) % 256)
    }
}
