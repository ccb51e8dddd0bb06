// Packets and capture files, byte by byte: nothing here comes from the code under test.

import TestPackets

/// Big-endian bytes.
func be16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
func be32(_ value: Int) -> [UInt8] { be16(value >> 16) + be16(value) }
/// Little-endian bytes.
func le16(_ value: Int) -> [UInt8] { be16(value).reversed() }
func le32(_ value: Int) -> [UInt8] { be32(value).reversed() }

/// Of RFC 1071, as it is written into a header.
func checksum(_ bytes: [UInt8]) -> Int { Int(~sum(bytes)) }

func ipv4(
    _ source: [UInt8], _ destination: [UInt8], _ number: UInt8, _ payload: [UInt8],
    trafficClass: UInt8 = 0, checksumError: Int = 0
) -> [UInt8] {
    var header = IPHeader(from: source, to: destination, protocolNumber: number)
    header.identification = 1
    header.fragment = 0
    header.trafficClass = trafficClass
    header.checksumError = UInt16(checksumError)
    return header.packet(payload)
}

func ipv6(_ source: [UInt8], _ destination: [UInt8], _ next: UInt8, _ payload: [UInt8])
    -> [UInt8]
{
    IPHeader(from: source, to: destination, protocolNumber: next).packet(payload)
}

/// 2001:db8:`net`::`host`
func address6(_ net: UInt8, _ host: UInt8) -> [UInt8] {
    [0x20, 0x01, 0x0d, 0xb8, 0, net] + [UInt8](repeating: 0, count: 9) + [host]
}

/// To port 443. UDP needs no checksum over IPv4, and shuck looks at none.
let datagram = be16(1000) + be16(443) + be16(12) + [0, 0] + Array("abcd".utf8)

/// A SYN with an MSS option. Its checksum is right between these addresses.
func syn(_ source: [UInt8], _ destination: [UInt8], mss: Int) -> [UInt8] {
    let header = IPHeader(from: source, to: destination, protocolNumber: 6)
    var segment = TCPSegment.syn(TestPackets.mss(UInt16(mss)))
    segment.sourcePort = 1000
    segment.destinationPort = 443
    segment.sequence = 7
    segment.acknowledgement = 0
    segment.window = 1024
    return segment.segment(header)
}

/// The addresses of `Sample.configuration`.
enum Sample {
    static let client: [UInt8] = [198, 51, 100, 7]
    static let client6 = address6(9, 7)
    static let pod: [UInt8] = [10, 2, 1, 9]
    static let pod6 = address6(2, 9)
    static let balancer: [UInt8] = [192, 0, 2, 65]
    static let balancer6 = address6(1, 0x65)
    static let node: [UInt8] = [192, 0, 2, 2]
    static let node6 = address6(0, 2)

    static let configuration = """
        interfaces: [eth0, eth1]
        tunnels:
          - name: lvs
            local: [192.0.2.2, "2001:db8::2"]
            remotes: [192.0.2.64/26, "2001:db8:1::/64"]
            destinations:
              - {prefix: 10.2.1.9, ports: [443], protocol: udp}
              - {prefix: 10.2.1.9, ports: [443], protocol: tcp, device: pod1}
              - {prefix: "2001:db8:2::/64"}
        devices: [{name: shuck0}, {name: pod1}]
        outer: {fragments: {memory: 0}}

        """

    static let inner4 = ipv4(client, pod, 17, datagram)
    static let inner6 = ipv6(client6, pod6, 17, datagram)

    static func outer4(_ inner: [UInt8], trafficClass: UInt8 = 0) -> [UInt8] {
        ipv4(balancer, node, inner[0] >> 4 == 4 ? 4 : 41, inner, trafficClass: trafficClass)
    }
    static func outer6(_ inner: [UInt8]) -> [UInt8] {
        ipv6(balancer6, node6, inner[0] >> 4 == 4 ? 4 : 41, inner)
    }

    /// ipip, ip6ip, ipip6, ip6ip6.
    static let allModes = [outer4(inner4), outer4(inner6), outer6(inner4), outer6(inner6)]
    static let allInner = [inner4, inner6, inner4, inner6]
}

func etherType(_ packet: [UInt8]) -> [UInt8] { packet[0] >> 4 == 4 ? [8, 0] : [0x86, 0xdd] }

/// The link layers of captures: number of the LINKTYPE, and what stands before a packet.
enum Link: Int, CaseIterable {
    case ethernet = 1
    case raw = 101
    case cooked = 113
    case cooked2 = 276

    /// - Parameter packetType: `sll_pkttype`, where the link has one; 0 is "to us".
    func frame(_ packet: [UInt8], packetType: UInt8 = 0) -> [UInt8] {
        let kind = etherType(packet)
        switch self {
        case .ethernet: return [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2] + kind + packet
        case .raw: return packet
        case .cooked:
            return [0, packetType, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0] + kind + packet
        case .cooked2:
            return kind + [0, 0, 0, 0, 0, 3, 0, 1, packetType, 6, 2, 0, 0, 0, 0, 2, 0, 0] + packet
        }
    }
}

/// A record of a capture; the fraction counts what the file's precision is.
struct Record {
    var bytes: [UInt8]
    var seconds = 1_700_000_000
    var fraction = 0
    /// Bytes on the wire; nil: all of them were captured.
    var wireLength: Int?

    static func numbered(_ frames: [[UInt8]]) -> [Record] {
        frames.enumerated().map { index, bytes in
            Record(bytes: bytes, seconds: 1_700_000_000 + index, fraction: 123 * (index + 1))
        }
    }
}

enum CaptureText {
    static func pcap(
        _ records: [Record], link: Int, isNanosecond: Bool = false, snapLength: Int = 65535
    ) -> [UInt8] {
        var bytes = le32(isNanosecond ? 0xa1b2_3c4d : 0xa1b2_c3d4) + le16(2) + le16(4)
        bytes += le32(0) + le32(0) + le32(snapLength) + le32(link)
        for record in records {
            bytes += le32(record.seconds) + le32(record.fraction) + le32(record.bytes.count)
            bytes += le32(record.wireLength ?? record.bytes.count) + record.bytes
        }
        return bytes
    }

    /// What shuck writes: linktype RAW, with libpcap's own bound for the length.
    static func output(_ records: [Record], isNanosecond: Bool = false) -> [UInt8] {
        pcap(records, link: 101, isNanosecond: isNanosecond, snapLength: 262_144)
    }

    /// One section with several interfaces; `times` count microseconds.
    static func pcapng(
        interfaces: [(link: Int, name: String?)],
        packets: [(interface: Int, time: UInt64, bytes: [UInt8])]
    ) -> [UInt8] {
        func padded(_ bytes: [UInt8]) -> [UInt8] {
            bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
        }
        func block(_ kind: Int, _ body: [UInt8]) -> [UInt8] {
            let whole = padded(body)
            return le32(kind) + le32(whole.count + 12) + whole + le32(whole.count + 12)
        }
        var bytes = block(
            0x0a0d_0d0a,
            le32(0x1a2b_3c4d) + le16(1) + le16(0) + [UInt8](repeating: 0xff, count: 8))
        for (number, interface) in interfaces.enumerated() {
            let name = Array((interface.name ?? "").utf8)
            let option = name.isEmpty ? [] : le16(2) + le16(name.count) + padded(name) + le32(0)
            // Each with a length of its own.
            bytes += block(1, le16(interface.link) + le16(0) + le32(65535 - number) + option)
        }
        for packet in packets {
            bytes += block(
                6,
                le32(packet.interface) + le32(Int(packet.time >> 32))
                    + le32(Int(packet.time & 0xffff_ffff)) + le32(packet.bytes.count)
                    + le32(packet.bytes.count) + packet.bytes)
        }
        return bytes
    }

    /// One section, one interface; `resolution`: the option if_tsresol, absent for microseconds.
    static func pcapng(_ records: [Record], link: Int, resolution: UInt8? = nil) -> [UInt8] {
        func block(_ kind: Int, _ body: [UInt8]) -> [UInt8] {
            let padded = body + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
            let length = le32(padded.count + 12)
            return le32(kind) + length + padded + length
        }
        let version = le32(0x1a2b_3c4d) + le16(1) + le16(0)
        var bytes = block(0x0a0d_0d0a, version + [UInt8](repeating: 0xff, count: 8))
        let option = resolution.map { le16(9) + le16(1) + [$0, 0, 0, 0] + le32(0) } ?? []
        bytes += block(1, le16(link) + le16(0) + le32(65535) + option)
        for record in records {
            let units =
                record.seconds * (resolution == 9 ? 1_000_000_000 : 1_000_000)
                + record.fraction
            bytes += block(
                6,
                le32(0) + le32(units >> 32) + le32(units & 0xffff_ffff)
                    + le32(record.bytes.count) + le32(record.wireLength ?? record.bytes.count)
                    + record.bytes)
        }
        return bytes
    }
}
