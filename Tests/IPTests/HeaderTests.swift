// Views of headers against the bytes of the RFCs' figures, in memory that ends with the header.

import IP
import TestPackets
import Testing

@Suite("Header views")
struct HeaderTests {
    @Test("each field of an IPv4 header")
    func ipv4() {
        let bytes: [UInt8] =
            [
                0x4f, 0xb9, 0x05, 0xdc, 0x12, 0x34, 0x20, 0x03, 63, 6, 0xab, 0xcd, 192, 0, 2, 1, 198, 51, 100,
                2,
            ]
        withBytes(bytes) {
            let header = $0.ipv4
            #expect(header.version == 4 && header.headerLength == 60)
            #expect(header.typeOfService == 0xb9 && header.totalLength == 1500)
            #expect(header.identification == 0x1234 && header.fragment == 0x2003)
            #expect(header.fragmentOffset == 24 && header.isLaterFragment && header.isFragment)
            #expect(header.timeToLive == 63 && header.protocolNumber == 6)
            #expect(header.headerChecksum == 0xabcd)
            #expect(header.source == 0xc000_0201 && header.destination == 0xc633_6402)
            #expect(header.versionToService == 0x4fb9 && header.lifeAndProtocol == 0x3f06)
        }
    }

    @Test(
        "flags and offset of IPv4",
        arguments: [
            (0, 0, false), (0x4000, 0, false), (0x8000, 0, false), (0x2000, 0, true), (1, 8, true),
            (0x1fff, 65_528, true), (0x3fff, 65_528, true),
        ] as [(UInt16, Int, Bool)])
    func fragments(field: UInt16, offset: Int, isFragment: Bool) {
        var header = IPHeader("192.0.2.1", "192.0.2.2", protocolNumber: 4, isIPv4: true)
        header.fragment = field
        withBytes(header.packet([])) {
            #expect($0.ipv4.fragmentOffset == offset && $0.ipv4.isFragment == isFragment)
            #expect($0.ipv4.isLaterFragment == (offset > 0))
            #expect($0.ipv4.isPlain == !isFragment)
        }
        for (version, words) in [(4, 6), (6, 5), (5, 5), (0, 5)] as [(UInt8, UInt8)] {
            header.version = version
            header.headerWords = words
            withBytes(header.packet([])) { #expect(!$0.ipv4.isPlain) }
        }
    }

    @Test("each field of an IPv6 header")
    func ipv6() {
        var header = IPHeader("2001:db8::1", "2001:db8:9::2", protocolNumber: 58, isIPv4: false)
        header.trafficClass = 0xb9
        header.flowLabel = 0xabcde
        header.ttl = 63
        header.lengthField = 0xfffe
        withBytes(header.packet([])) {
            let found = $0.ipv6
            #expect(found.version == 6 && found.trafficClass == 0xb9 && found.congestion == 1)
            #expect(found.versionToLabel == 0x6b9a_bcde)
            #expect(found.payloadLength == 0xfffe && found.totalLength == 0x10026)
            #expect(found.nextHeader == 58 && found.hopLimit == 63 && found.nextAndLimit == 0x3a3f)
            #expect(found.source == ip("2001:db8::1") && found.destination == ip("2001:db8:9::2"))
        }
    }

    @Test("headers that are written are those that the tests build")
    func writers() {
        var random = Random(1)
        for _ in 0..<200 {
            let (number, ttl) = (UInt8(random.below(256)), UInt8(random.below(256)))
            var four = IPHeader(from: random.bytes(4), to: random.bytes(4), protocolNumber: number)
            four.trafficClass = UInt8(random.below(256))
            four.identification = UInt16(random.below(1 << 16))
            four.ttl = ttl
            four.lengthField = UInt16(random.below(1 << 16))
            let header4 = written(20) {
                IPv4Writer($0).fill(
                    typeOfService: four.trafficClass, totalLength: Int(four.lengthField!),
                    identification: four.identification, fragment: four.fragment, timeToLive: ttl,
                    protocolNumber: number, source: four.source.ipv4, destination: four.destination.ipv4)
            }
            #expect(header4 == four.packet([]))
            var six = IPHeader(from: random.bytes(16), to: random.bytes(16), protocolNumber: number)
            six.trafficClass = UInt8(random.below(256))
            six.flowLabel = UInt32(random.below(1 << 20))
            six.ttl = ttl
            six.lengthField = UInt16(random.below(1 << 16))
            let header6 = written(40) {
                IPv6Writer($0).fill(
                    trafficClass: six.trafficClass, flowLabel: six.flowLabel,
                    payloadLength: Int(six.lengthField!), nextHeader: number, hopLimit: ttl,
                    source: six.source, destination: six.destination)
            }
            #expect(header6 == six.packet([]))
        }
    }

    @Test("a traffic class that is set leaves version and flow label")
    func trafficClass() {
        for old in [0, 0xff, 0xa5] as [UInt8] {
            for new in [0, 0xff, 0x5a] as [UInt8] {
                var header = IPHeader("2001:db8::1", "2001:db8::2", protocolNumber: 6, isIPv4: false)
                header.flowLabel = 0xfffff
                header.trafficClass = old
                let bytes = withMemory(header.packet([])) { base in
                    IPv6Writer(base).set(trafficClass: new)
                    return Array(UnsafeRawBufferPointer(start: base, count: 40))
                }
                header.trafficClass = new
                #expect(bytes == header.packet([]))
            }
        }
    }

    @Test("each field of TCP, UDP and ICMP")
    func transport() {
        let network = IPHeader("192.0.2.1", "192.0.2.2", protocolNumber: 6, isIPv4: true)
        let segment = TCPSegment(
            sourcePort: 0x1234, destinationPort: 0x5678, flags: 0x12, options: [2, 4, 5, 0xb4],
            sequence: 0x0102_0304, acknowledgement: 0x0506_0708, urgent: 0x9abc
        ).segment(network)
        withBytes([0xee] + segment) {
            let header = $0.tcp(at: 1)
            #expect(header.ports.source == 0x1234 && header.ports.destination == 0x5678)
            #expect(header.sequenceNumber == 0x0102_0304 && header.acknowledgmentNumber == 0x0506_0708)
            #expect(header.dataOffset == 24 && header.flags == TCPHeader.syn | TCPHeader.ack)
            #expect(header.offsetToWindow == 0x6012_faf0 && header.urgentPointer == 0x9abc)
            #expect(UInt16(bigEndian: header.rawChecksum) == UInt16(segment[16]) << 8 | UInt16(segment[17]))
        }
        withBytes(udp(network, to: 9, [1, 2, 3])) {
            #expect($0.ports(at: 0).source == 40000 && $0.ports(at: 0).destination == 9)
            #expect($0.udp(at: 0).length == 11)
        }
        withBytes(icmp(network, type: 3, code: 4, [])) { #expect($0.icmp(at: 0).type == 3) }
        #expect(written(8) { $0.fillICMP(type: 3, code: 4, mtu: 1400) } == [3, 4, 0, 0, 0, 0, 5, 0x78])
    }

    /// A header that is cut short still has the fields before the cut.
    @Test("fields of a header that is cut short")
    func short() {
        withBytes([0x12, 0x34, 0x56, 0x78]) {
            #expect($0.ports(at: 0).source == 0x1234 && $0.tcp(at: 0).ports.destination == 0x5678)
        }
        withBytes([11]) { #expect($0.icmp(at: 0).type == 11) }
        withBytes([0x4f]) { #expect($0.ipv4.version == 4 && $0.ipv4.headerLength == 60) }
        withBytes([5, 2]) { #expect($0.option.type == 5 && $0.option.length == 2) }
        withBytes([1, 2, 3, 4, 5, 6, 7, 8]) {
            #expect($0.u64(0) == 0x0102_0304_0506_0708 && $0.u32(4) == 0x0506_0708 && $0.u16(6) == 0x0708)
            #expect($0.dropFirst(8).count == 0 && $0.dropFirst(7).u8(0) == 8)
        }
    }

    @Test("link-layer headers end with the network layer's type")
    func links() {
        for tag in [0, 1, 0xfff, 0xf000, 0xffff] as [UInt16] {
            withBytes(word(tag) + word(EtherType.ipv6)) {
                #expect(VLANTag($0).identifier == tag & 0xfff && VLANTag($0).etherType == 0x86dd)
            }
        }
        withBytes([UInt8](repeating: 1, count: 12) + [8, 0]) {
            #expect(EthernetHeader($0).etherType == EtherType.ipv4)
        }
        withBytes([0, 4] + [UInt8](repeating: 1, count: 12) + [8, 0]) {
            #expect(LinuxCookedHeader($0).packetType == 4 && LinuxCookedHeader($0).etherType == 0x0800)
        }
        let second: [UInt8] = [0x86, 0xdd, 0, 0, 0, 0, 1, 2, 0, 1, 3, 6] + [UInt8](repeating: 1, count: 8)
        withBytes(second) {
            let header = LinuxCookedHeader2($0)
            #expect(header.etherType == 0x86dd && header.interfaceIndex == 0x102 && header.packetType == 3)
        }
    }
}
