// A packet in one line, as status shows the last one that was refused.

import Forwarding
import IP

/// A packet in one line, outer header first:
/// `192.0.2.1 > 192.0.2.2 ipip 198.51.100.2:4000 > 203.0.113.4:80 tcp`.
public enum PacketLine {
    /// - Parameter head: the first bytes, from the network header on; a header that is cut off ends
    ///   the line.
    public static func text(_ head: [UInt8]) -> String {
        head.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress, let outer = Header(Bytes(base, count: buffer.count)) else {
                return "\(head.count) bytes that are no IP header"
            }
            guard outer.isTunnel else { return outer.text }
            let mode = Mode.allCases.first {
                $0.outerIsIPv4 == outer.isIPv4 && $0.innerIsIPv4 == (outer.next == ProtocolNumber.ipv4)
            }
            let name = mode?.name ?? "protocol \(outer.next)"
            let inner = Header(outer.rest)?.text ?? "no IP header"
            return "\(outer.source.text) > \(outer.destination.text) \(name) \(inner)"
        }
    }

    /// Bytes of the headers alone: outer, inner, and the first 20 of TCP or 8 of another protocol. What users
    /// send each other is left out.
    static func headerBytes(_ head: [UInt8]) -> Int {
        head.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress, let outer = Header(Bytes(base, count: buffer.count)) else {
                return 0
            }
            var last = outer
            if outer.isTunnel {
                guard let inner = Header(outer.rest) else { return head.count - outer.rest.count }
                last = inner
            }
            let transport =
                last.isLaterFragment ? 0 : last.next == ProtocolNumber.tcp ? 20 : Ports.byteCount * 2
            return head.count - last.rest.count + min(transport, last.rest.count)
        }
    }

    private struct Header {
        let isIPv4: Bool
        let source: Address
        let destination: Address
        let next: UInt8
        let isLaterFragment: Bool
        let rest: Bytes

        var isTunnel: Bool { ProtocolNumber.isTunnel(next) && !isLaterFragment }

        /// Over the extension headers that are at hand (RFC 8200 §4).
        init?(_ packet: Bytes) {
            let start: Int
            switch packet.count > 0 ? packet.ipv4.version : 0 {
            case 4 where packet.count >= IPv4Header.byteCount:
                let header = packet.ipv4
                (isIPv4, source) = (true, Address(ipv4: header.source))
                destination = Address(ipv4: header.destination)
                (next, isLaterFragment) = (header.protocolNumber, header.isLaterFragment)
                start = max(header.headerLength, IPv4Header.byteCount)
            case 6 where packet.count >= IPv6Header.byteCount:
                var walk = ExtensionHeaderWalk(packet)
                var isLater = false
                while !isLater, ExtensionHeader.isWalked(walk.number),
                    let header = walk.next(in: packet, end: packet.count)
                {
                    isLater =
                        header.number == ProtocolNumber.fragment
                        && packet.fragmentHeader(at: header.offset).fragmentOffset != 0
                }
                (isIPv4, source, destination) = (false, packet.ipv6.source, packet.ipv6.destination)
                (next, isLaterFragment, start) = (walk.number, isLater, walk.offset)
            default: return nil
            }
            rest = packet.dropFirst(min(start, packet.count))
        }

        var text: String {
            let names = [
                ProtocolNumber.icmp: "icmp", ProtocolNumber.tcp: "tcp", ProtocolNumber.udp: "udp",
                ProtocolNumber.icmpv6: "icmpv6",
            ]
            let name = names[next] ?? "protocol \(next)"
            guard next == ProtocolNumber.tcp || next == ProtocolNumber.udp, !isLaterFragment,
                rest.count >= Ports.byteCount
            else {
                return "\(source.text) > \(destination.text) \(name)"
                    + (isLaterFragment ? " fragment" : "")
            }
            let ports = rest.ports(at: 0)
            return "\(endpoint(source, ports.source)) > \(endpoint(destination, ports.destination)) \(name)"
        }

        private func endpoint(_ address: Address, _ port: UInt16) -> String {
            address.isIPv4 ? "\(address.text):\(port)" : "[\(address.text)]:\(port)"
        }
    }
}
