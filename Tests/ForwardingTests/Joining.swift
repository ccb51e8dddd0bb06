// Puts a batch before judge and coalescer, and cuts what they join as the kernel does: in slow, plain code.

import Glibc
import SlowJudge
import TestPackets
import Testing

@testable import Forwarding

/// A packet of a batch: TCP or UDP, whole and well unless it is told to lie.
struct Segment {
    var mode = Mode.ipip
    var header: IPHeader
    /// nil: UDP.
    var tcp: TCPSegment?
    var sourcePort: UInt16 = 40000
    var destinationPort: UInt16 = 80
    var payload: [UInt8] = []
    /// UDP: its length field, when it lies.
    var lengthField: UInt16?
    /// Added to a right checksum, or put in its place.
    var checksumError: UInt16 = 0
    var checksum: UInt16?
    /// The checksum is still to be finished, as a sender on this host leaves it.
    var isUnfinished = false
    /// Of a frame that arrives joined.
    var gsoSize: UInt16 = 0
    var outerECN: UInt8 = 0
    /// Instead of all of the above: behind the IP header.
    var other: [UInt8]?

    init(_ mode: Mode, isTCP: Bool) {
        self.mode = mode
        header = Encapsulated(mode).inner
        header.protocolNumber = isTCP ? 6 : 17
        tcp = isTCP ? TCPSegment() : nil
    }

    var isTCP: Bool { tcp != nil }

    private var upper: [UInt8] {
        if let other { return other }
        var bytes: [UInt8]
        if var tcp {
            tcp.sourcePort = sourcePort
            tcp.destinationPort = destinationPort
            tcp.payload = payload
            bytes = tcp.segment(header)
        } else {
            bytes = word(sourcePort) + word(destinationPort)
            bytes += word(lengthField ?? UInt16(8 + payload.count)) + [0, 0] + payload
        }
        let offset = isTCP ? 16 : 6
        bytes.replaceSubrange(offset..<(offset + 2), with: [0, 0])
        var value = header.checksum(bytes)
        if !isTCP && value == 0 { value = 0xffff }
        if isUnfinished { value = pseudoHeaderSum(header, bytes.count) }
        value = checksum ?? value &+ checksumError
        bytes.replaceSubrange(offset..<(offset + 2), with: word(value))
        return bytes
    }

    var inner: [UInt8] { header.packet(upper) }

    var encapsulated: Encapsulated {
        Encapsulated(mode).with {
            $0.inner = header
            $0.payload = upper
            $0.outer.trafficClass = outerECN
        }
    }

    func vnet(linkLength: Int) -> VirtioHeader {
        guard isUnfinished || gsoSize > 0 else { return VirtioHeader() }
        let packet = encapsulated
        let start = linkLength + packet.outerLength + packet.innerPacket.count - upper.count
        return VirtioHeader(
            flags: VirtioHeader.needsChecksum,
            gsoType: gsoSize == 0 ? 0 : !isTCP ? 5 : header.isIPv4 ? 1 : 4,
            headerLength: UInt16(start + (isTCP ? 20 : 8)), gsoSize: gsoSize,
            checksumStart: UInt16(start), checksumOffset: isTCP ? 16 : 6)
    }
}

func pseudoHeaderSum(_ header: IPHeader, _ length: Int) -> UInt16 {
    sum(header.addressBytes + word(UInt16(length)) + word(UInt16(header.protocolNumber)))
}

/// One write to a device.
struct Write {
    var members: [Int]
    var vnet: VirtioHeader
    var packet: [UInt8]
}

/// A batch with memory of its own, for tests.
final class TestBatch {
    let batch: Batch
    private let memory: UnsafeMutableRawPointer

    init(capacity: Int = Limits.batch) {
        memory = .allocate(byteCount: Batch.byteCount(capacity: capacity), alignment: 128)
        batch = Batch(in: memory, capacity: capacity)
    }

    deinit { memory.deallocate() }
}

/// The writes of a batch, in order. Every frame lies in a heap block of exactly its size.
/// - Parameter flowMask: what is left of the flows' hashes.
func writes(
    _ segments: [Segment], kinds: Coalescer.Kinds = [.tcp, .udp], world: ForwardingTables = joiningWorld,
    in given: TestBatch = TestBatch(), flowMask: UInt32? = nil,
    change: (inout Verdict) -> Void = { _ in }
) -> [Write] {
    withJudged(segments, kinds: kinds, world: world, in: given, flowMask: flowMask, change) {
        batch, times in
        batch.list(segments.count, times).operations.map { Write(batch.operations[$0], batch) }
    }
}

/// Puts segments into a batch and judges them.
func withJudged<T>(
    _ segments: [Segment], kinds: Coalescer.Kinds = [.tcp, .udp], world: ForwardingTables = joiningWorld,
    in given: TestBatch = TestBatch(), flowMask: UInt32? = nil, isShadow: Bool = false,
    errors: ICMPErrorTokens? = nil, _ change: (inout Verdict) -> Void = { _ in },
    _ body: (Batch, ArrivalTimes) throws -> T
) rethrows -> T {
    let batch = given.batch
    let packets = segments.map(\.encapsulated.packet)
    let blocks = packets.map { packet in
        let block = malloc(packet.count)!
        packet.withUnsafeBytes { _ = memcpy(block, $0.baseAddress!, packet.count) }
        return block
    }
    defer { for block in blocks { free(block) } }
    batch.adopt(
        world.view, kinds: world.policy.policy.devices.map { _ in kinds }, errors: errors,
        isShadow: isShadow)
    for index in segments.indices {
        (batch.frames + index).initialize(
            to: Frame(
                network: UnsafeRawPointer(blocks[index]), head: batch.head(index),
                length: packets[index].count, wireLength: packets[index].count, linkLength: 14,
                etherType: segments[index].mode.outerIsIPv4 ? 0x0800 : 0x86dd, interface: 0,
                isForUs: true, vnet: segments[index].vnet(linkLength: 14)))
    }
    var times = ArrivalTimes(first: batch.frames, now: 1_000_000_000)
    Judge.judge(
        batch.frames, into: batch.verdicts, count: segments.count, tables: world.view,
        cache: batch.cache, reassembler: nil, times: &times)
    for index in segments.indices {
        change(&batch.verdicts[index])
        guard let flowMask, batch.verdicts[index].kind == .inject else { continue }
        let flow = Flow.of(batch.frames + index, batch.verdicts + index)
        if flow > Flow.none { batch.verdicts[index].flow = flow & flowMask }
    }
    return try body(batch, times)
}

/// Any destination, through a device that all packets fit.
let joiningWorld = world {
    $0.mssIPv4 = .off
    $0.mssIPv6 = .off
}

extension Write {
    init(_ operation: Batch.Operation, _ batch: Batch) {
        let bytes = operation.content
        #expect(bytes.count == Int(operation.length))
        var members: [Int] = []
        batch.forEachFrame(of: operation) { members.append($0) }
        self.members = members
        vnet = bytes.withUnsafeBytes { $0.loadUnaligned(as: VirtioHeader.self) }
        packet = Array(bytes.dropFirst(VirtioHeader.byteCount))
    }
}

/// What leaves the host in place of a packet that was written with this header: net/core/gso.c,
/// net/ipv4/tcp_offload.c `tcp_gso_segment`, net/ipv4/udp_offload.c `__udp_gso_segment`,
/// net/ipv4/af_inet.c `inet_gso_segment`, and `skb_checksum_help` for what is not cut.
func cut(_ packet: [UInt8], _ vnet: VirtioHeader) -> [[UInt8]] {
    let isIPv4 = packet[0] >> 4 == 4
    let start = Int(vnet.checksumStart)
    guard vnet.gsoType != 0 else {
        return vnet.flags == 0 ? [packet] : [finished(packet, start, Int(vnet.checksumOffset))]
    }
    let isTCP = vnet.gsoType != 5
    #expect(vnet.flags == 1 && start == (isIPv4 ? 20 : 40))
    #expect(vnet.checksumOffset == (isTCP ? 16 : 6))
    #expect(!isTCP || vnet.gsoType == (isIPv4 ? 1 : 4))
    let headers = start + (isTCP ? Int(packet[start + 12] >> 4) * 4 : 8)
    #expect(Int(vnet.headerLength) == headers)
    let (size, payload) = (Int(vnet.gsoSize), packet.count - headers)
    // include/linux/virtio_net.h takes anything less for a packet that is not to be cut.
    #expect(size > 0 && payload > size && packet.count <= 65_535)
    #expect(isTCP || payload <= size * 64)
    let count = (payload + size - 1) / size
    return (0..<count).map { number in
        let from = headers + number * size
        var bytes = Array(packet[..<headers]) + packet[from..<min(from + size, packet.count)]
        func put(_ value: UInt16, _ offset: Int) {
            bytes.replaceSubrange(offset..<(offset + 2), with: word(value))
        }
        func u16(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1]) }
        // The checksum field holds the sum over addresses, protocol and the whole's length.
        let whole = UInt16(packet.count - start)
        let part = UInt16(bytes.count - start)
        let field = start + (isTCP ? 16 : 6)
        put(sum(word(u16(field)) + word(~whole) + word(part)), field)
        if isTCP {
            let sequence = UInt32(u16(start + 4)) << 16 | UInt32(u16(start + 6))
            bytes.replaceSubrange(
                (start + 4)..<(start + 8), with: wide(sequence &+ UInt32(number * size)))
            if number < count - 1 { bytes[start + 13] &= ~0x09 }
            if number > 0 { bytes[start + 13] &= ~0x80 }
        } else {
            put(part, start + 4)
        }
        if isIPv4 {
            put(UInt16(bytes.count), 2)
            put(u16(4) &+ UInt16(number), 4)
            put(0, 10)
            put(~sum(Array(bytes[..<20])), 10)
        } else {
            put(UInt16(bytes.count - 40), 4)
        }
        return finished(bytes, start, field - start)
    }
}

/// What stands in the checksum's field is part of the sum; UDP has no checksum of 0.
func finished(_ packet: [UInt8], _ start: Int, _ offset: Int) -> [UInt8] {
    var bytes = packet
    var value = ~sum(Array(packet[start...]))
    if offset == 6 && value == 0 { value = 0xffff }
    bytes.replaceSubrange((start + offset)..<(start + offset + 2), with: word(value))
    return bytes
}

/// The packets that leave the host for a batch's writes are those that came in, byte by byte.
func expectSameBytes(
    _ writes: [Write], _ segments: [Segment], sourceLocation: SourceLocation = #_sourceLocation
) {
    for write in writes {
        if write.members.count == 1 { continue }
        let packets = cut(write.packet, write.vnet)
        #expect(packets.count == write.members.count, sourceLocation: sourceLocation)
        for (packet, member) in zip(packets, write.members) {
            let segment = segments[member]
            let came =
                segment.isUnfinished
                ? finished(segment.inner, segment.header.isIPv4 ? 20 : 40, segment.isTCP ? 16 : 6)
                : segment.inner
            #expect(packet == came, "packet \(member)", sourceLocation: sourceLocation)
        }
    }
}
