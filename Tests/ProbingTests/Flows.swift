// Flows that the tests of this folder probe, and what comes back to them.

import Forwarding
import IP
import TestPackets

@testable import Probing

/// One flow per mode.
func flow(_ mode: Mode, _ probeProtocol: ProbeProtocol = .tcp, port: UInt16 = 80) -> ProbeFlow {
    ProbeFlow(
        outerSource: ip(mode.outerIsIPv4 ? "192.0.2.1" : "2001:db8:1::1"),
        outerDestination: ip(mode.outerIsIPv4 ? "192.0.2.2" : "2001:db8:1::2"),
        innerSource: ip(mode.innerIsIPv4 ? "198.51.100.1" : "2001:db8:c::1"),
        innerDestination: ip(mode.innerIsIPv4 ? "203.0.113.4" : "2001:db8:f::4"),
        probeProtocol: probeProtocol, port: probeProtocol.hasPort ? port : 0)
}

func probe(
    _ mode: Mode, _ probeProtocol: ProbeProtocol = .tcp, token: UInt16 = 50_000, length: Int = 0
) -> ProbePacket {
    ProbePacket(flow: flow(mode, probeProtocol), token: token, secret: 0xfedc_ba98, length: length)
}

extension ProbeFlow {
    /// The header of an inner packet, or of one that comes back.
    func header(back: Bool = false, number: UInt8? = nil) -> IPHeader {
        let (source, destination) =
            back ? (innerDestination, innerSource) : (innerSource, innerDestination)
        var header = IPHeader(
            from: source.bytes, to: destination.bytes,
            protocolNumber: number ?? probeProtocol.number(isIPv4: source.isIPv4))
        header.fragment = 0x4000
        return header
    }

    func outerHeader() -> IPHeader {
        var header = IPHeader(
            from: outerSource.bytes, to: outerDestination.bytes,
            protocolNumber: innerSource.isIPv4 ? 4 : 41)
        header.fragment = 0x4000
        return header
    }
}

/// An ICMP error to one end of a flow, as a router sends it.
/// - Parameter type: of IPv4 and of IPv6, with the code.
func errorPacket(
    from sender: Address, to receiver: Address, type: UInt8, code: UInt8 = 0, mtu: UInt16 = 0,
    quoting quoted: [UInt8]
) -> [UInt8] {
    let header = IPHeader(
        from: sender.bytes, to: receiver.bytes, protocolNumber: sender.isIPv4 ? 1 : 58)
    var message = icmp(header, type: type, code: code, quoted)
    message.replaceSubrange(6..<8, with: word(mtu))
    return header.packet(message)
}

/// In memory of just that length, so that a read beyond it is seen.
func read(_ packet: [UInt8]) -> ProbeAnswer? {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(packet.count, 1), alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: packet)
    return memory.baseAddress.flatMap { ProbeAnswer.read(Bytes($0, count: packet.count)) }
}
