// Joins consecutive segments of a flow in a batch, so that one write carries all of them and the
// kernel cuts them apart again (TSO, USO) where it must. Only what it would cut back to the very
// bytes that came in is joined.

import IP

/// One worker's. A run is a packet and those behind it that go out with it, at its place: so no
/// packet overtakes an earlier one of its flow, and only packets of other flows are overtaken.
public struct Coalescer: @unchecked Sendable, BitwiseCopyable {
    /// What a device's kernel cuts.
    public struct Kinds: OptionSet, Sendable, BitwiseCopyable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let tcp = Kinds(rawValue: 1)
        public static let udp = Kinds(rawValue: 2)
    }

    /// A run as it is written: the first's `Frame.head`, then each packet behind its headers.
    struct Run: BitwiseCopyable {
        fileprivate(set) var vnet = VirtioHeader()
        /// Bytes of IP and transport header, in every packet of the run.
        fileprivate(set) var headers: Int
        /// Payload of every packet but the last, which may have less.
        fileprivate var segment: Int
        /// Headers once, and all payloads.
        fileprivate(set) var length: Int
        fileprivate(set) var count: Int
    }

    /// What is known of a packet of the batch.
    private struct Flags: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        /// Of a run of two and more.
        static let first = Flags(rawValue: 1)
        /// Behind a first.
        static let follower = Flags(rawValue: 2)
        /// Its checksum was summed up, and whether it was right.
        static let summed = Flags(rawValue: 4)
        static let right = Flags(rawValue: 8)
    }

    private let runs: UnsafeMutablePointer<Run>
    private let flags: UnsafeMutablePointer<Flags>
    private let followers: UnsafeMutablePointer<UInt8>
    private let firsts: UnsafeMutablePointer<UInt8>
    /// The last packet of a flow, by its hash. Needs no clearing between batches: a stale number can only
    /// match a packet of the same flow in this batch, which has then written the entry already.
    private let table: UnsafeMutablePointer<UInt8>

    static let bytesPerPacket = MemoryLayout<Run>.stride + 3
    static let tableBytes = 256

    /// - Parameter take: gives memory for so many bytes of a kind, the largest alignment first.
    init(capacity: Int, _ take: (UInt8.Type, Int) -> UnsafeMutablePointer<UInt8>) {
        precondition(capacity <= 1 << UInt8.bitWidth)
        runs = UnsafeMutableRawPointer(take(UInt8.self, capacity * MemoryLayout<Run>.stride))
            .bindMemory(to: Run.self, capacity: capacity)
        flags = UnsafeMutableRawPointer(take(UInt8.self, capacity))
            .bindMemory(to: Flags.self, capacity: capacity)
        followers = take(UInt8.self, capacity)
        firsts = take(UInt8.self, capacity)
        table = take(UInt8.self, Self.tableBytes)
        table.initialize(repeating: .max, count: Self.tableBytes)
    }

    // Of the batch that `join` saw last.

    @inline(__always)
    func isFollower(_ index: Int) -> Bool { flags[index].contains(.follower) }
    @inline(__always)
    func isFirst(_ index: Int) -> Bool { flags[index].contains(.first) }

    /// Finds the runs of a judged batch.
    /// - Parameter kinds: of each of the policy's devices.
    /// - Returns: how many packets are in runs, the first of each not counted: writes that are saved.
    @inline(never)
    func join(
        _ frames: UnsafePointer<Frame>, _ verdicts: UnsafeMutablePointer<Verdict>, _ count: Int,
        _ kinds: UnsafePointer<Kinds>
    ) -> Int {
        flags.initialize(repeating: [], count: count)
        var pass = Pass(frames: frames, verdicts: verdicts, kinds: kinds)
        var index = 0
        while index < count {
            let verdict = verdicts + index
            if verdict.pointee.kind == .inject {
                if verdict.pointee.flow == Flow.unknown {
                    verdict.pointee.flow = Flow.of(frames + index, verdict)
                    if verdict.pointee.flow == Flow.any { pass.barrier = index }
                }
                let flow = verdict.pointee.flow
                let place = table + Int(flow &>> 24)
                let last = Int(place.pointee)
                place.pointee = UInt8(truncatingIfNeeded: index)
                if last < index, verdicts[last].flow == flow { extend(&pass, last, index) }
            }
            index &+= 1
        }
        return pass.saved
    }

    /// The packet of a run behind this one.
    @inline(__always)
    private func follower(of index: Int) -> Int { Int(followers[index]) }

    /// The packets of a run, in order.
    @inline(__always)
    func forEachMember(of first: Int, _ body: (Int) -> Void) {
        var index = first
        body(index)
        for _ in 1..<runs[first].count {
            index = follower(of: index)
            body(index)
        }
    }

    /// Writes the headers of a run to its first packet's `Frame.head`, as the kernel wants them
    /// of a packet to be cut: lengths of the whole, the last one's push flag, and the
    /// pseudo-header's sum for a checksum.
    func seal(
        _ first: Int, _ frames: UnsafePointer<Frame>, _ verdicts: UnsafePointer<Verdict>
    ) -> Run {
        let run = runs + first
        let verdict = verdicts + first
        let isIPv4 = verdict.pointee.mode.innerIsIPv4
        let length = run.pointee.length
        let transport = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        let packet = Bytes(
            frames[first].network + Int(verdict.pointee.offset), count: Int(verdict.pointee.length))
        let head = frames[first].head
        head.copyMemory(from: packet.base, byteCount: run.pointee.headers)
        let field = UInt16(truncatingIfNeeded: isIPv4 ? length : length &- transport)
        if isIPv4 {
            let old = packet.ipv4
            IPv4Writer(head).set(totalLength: field)
            IPv4Writer(head).set(
                headerChecksum: Checksum.updated(old.headerChecksum, from: old.totalLength, to: field))
        } else {
            IPv6Writer(head).set(payloadLength: field)
        }
        let isTCP = (isIPv4 ? packet.ipv4.protocolNumber : packet.ipv6.nextHeader) == ProtocolNumber.tcp
        let checksumOffset = isTCP ? TCPHeader.Offset.checksum : UDPHeader.Offset.checksum
        if isTCP {
            var last = first
            for _ in 1..<run.pointee.count { last = follower(of: last) }
            let end = Bytes(
                frames[last].network + Int(verdicts[last].offset), count: Int(verdicts[last].length))
            head.storeBytes(
                of: end.tcp(at: transport).flags, toByteOffset: transport &+ TCPHeader.Offset.flags,
                as: UInt8.self)
        } else {
            head.storeBigEndian(
                UInt16(truncatingIfNeeded: length &- transport),
                at: transport &+ UDPHeader.Offset.length)
        }
        let sum = packet.pseudoHeaderSum(isIPv4: isIPv4, length: length &- transport)
        head.storeBytes(
            of: Checksum.folded(sum), toByteOffset: transport &+ checksumOffset, as: UInt16.self)
        run.pointee.vnet = VirtioHeader(
            flags: VirtioHeader.needsChecksum,
            gsoType: !isTCP
                ? VirtioHeader.gsoUDP
                : isIPv4 ? VirtioHeader.gsoTCPv4 : VirtioHeader.gsoTCPv6,
            headerLength: UInt16(truncatingIfNeeded: run.pointee.headers),
            gsoSize: UInt16(truncatingIfNeeded: run.pointee.segment),
            checksumStart: UInt16(truncatingIfNeeded: transport),
            checksumOffset: UInt16(truncatingIfNeeded: checksumOffset))
        return run.pointee
    }
}

extension Coalescer {
    /// A batch while its runs are found.
    private struct Pass {
        let frames: UnsafePointer<Frame>
        let verdicts: UnsafeMutablePointer<Verdict>
        let kinds: UnsafePointer<Kinds>
        var saved = 0
        /// The newest packet that may belong to any flow: nothing joins what lies before it.
        var barrier = 0

        @inline(__always)
        func packet(_ index: Int) -> Bytes {
            Bytes(
                frames[index].network + Int(verdicts[index].offset),
                count: Int(verdicts[index].length))
        }
    }

    /// Joins a packet to the run of the last one of its flow, if it may.
    @inline(never)
    private func extend(_ pass: inout Pass, _ last: Int, _ index: Int) {
        guard last >= pass.barrier, pass.verdicts[index].flow != Flow.none else { return }
        let isRun = flags[last].contains(.follower)
        let first = isRun ? Int(firsts[last]) : last
        let (old, new) = (pass.verdicts + first, pass.verdicts + index)
        guard old.pointee.device == new.pointee.device,
            old.pointee.mode.innerIsIPv4
                == new.pointee.mode.innerIsIPv4, old.pointee.headLength | new.pointee.headLength == 0,
            old.pointee.vnet.gsoType == VirtioHeader.gsoNone, old.pointee.vnet == new.pointee.vnet
        else { return }
        let (head, packet) = (pass.packet(first), pass.packet(index))
        let isIPv4 = old.pointee.mode.innerIsIPv4
        let place = isRun ? runs[first].count : 1
        guard
            isIPv4
                ? Segment.isSameIPv4(head, packet, distance: place) : Segment.isSameIPv6(head, packet)
        else { return }
        let isTCP = (isIPv4 ? head.ipv4.protocolNumber : head.ipv6.nextHeader) == ProtocolNumber.tcp
        let transport = isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        guard pass.kinds[Int(old.pointee.device)].contains(isTCP ? .tcp : .udp) else { return }
        let headers =
            isTCP
            ? Segment.headersOfTCP(head, transport) : Segment.headersOfUDP(head, transport)
        guard headers > 0 else { return }
        let run =
            isRun
            ? runs[first]
            : Run(
                headers: headers, segment: head.count &- headers, length: head.count, count: 1)
        let payload = packet.count &- headers
        // Only the last may be shorter, so the last so far must not be.
        guard payload > 0, payload <= run.segment, run.length &+ payload <= 65_535,
            Int(pass.verdicts[last].length) == head.count,
            isTCP
                ? Segment.continuesTCP(
                    head, pass.packet(last), packet, transport, headers,
                    distance: run.length &- headers)
                : Segment.continuesUDP(head, packet, transport)
        else { return }
        guard isRight(&pass, first, isTCP, transport), isRight(&pass, index, isTCP, transport)
        else { return }
        runs[first] = Run(
            headers: headers, segment: run.segment, length: run.length &+ payload,
            count: run.count &+ 1)
        followers[last] = UInt8(truncatingIfNeeded: index)
        firsts[index] = UInt8(truncatingIfNeeded: first)
        flags[first].insert(.first)
        flags[index].insert(.follower)
        pass.saved &+= 1
    }

    /// Whether the kernel would put just the checksum there that stands there. It makes new ones
    /// when it cuts, which would turn a wrong one into a right one. Costly, so it comes last, and
    /// once a packet.
    private func isRight(_ pass: inout Pass, _ index: Int, _ isTCP: Bool, _ transport: Int) -> Bool {
        if flags[index].contains(.summed) { return flags[index].contains(.right) }
        flags[index].insert(.summed)
        let isRight = Segment.hasRightChecksum(
            pass.packet(index), pass.verdicts[index].vnet, isTCP: isTCP, transport)
        if isRight { flags[index].insert(.right) }
        return isRight
    }
}

/// When two segments may become one, after net/ipv4/tcp_offload.c `tcp_gro_receive`,
/// net/ipv4/af_inet.c `inet_gro_receive` and net/ipv6/ip6_offload.c `ipv6_gro_receive`, and
/// stricter where the kernel would not cut the same bytes back.
private enum Segment {
    /// Plain headers, equal but for length, checksum and an ID that counts up: TSO and USO number
    /// what they cut (`inet_gso_segment`), and no flag of virtio_net_hdr would keep it constant.
    @inline(__always)
    static func isSameIPv4(_ head: Bytes, _ packet: Bytes, distance: Int) -> Bool {
        let (one, two) = (head.ipv4, packet.ipv4)
        // A checksum of 0xffff means what 0 means, which the kernel writes.
        return one.versionToService >> 8 == 0x45 && one.versionToService == two.versionToService
            && two.identification == one.identification &+ UInt16(truncatingIfNeeded: distance)
            && one.fragment & ~IPv4Header.dontFragment == 0 && one.fragment == two.fragment
            && one.lifeAndProtocol == two.lifeAndProtocol && one.rawAddresses == two.rawAddresses
            && one.headerChecksum != 0xffff && two.headerChecksum != 0xffff
    }

    @inline(__always)
    static func isSameIPv6(_ head: Bytes, _ packet: Bytes) -> Bool {
        let (one, two) = (head.ipv6, packet.ipv6)
        return one.versionToLabel == two.versionToLabel && one.nextAndLimit == two.nextAndLimit
            && one.rawSourceHigh == two.rawSourceHigh && one.rawSourceLow == two.rawSourceLow
            && one.rawDestinationHigh == two.rawDestinationHigh
            && one.rawDestinationLow == two.rawDestinationLow
    }

    /// Bytes of IP and TCP header; 0: no run begins with it.
    @inline(__always)
    static func headersOfTCP(_ packet: Bytes, _ transport: Int) -> Int {
        guard packet.count >= transport &+ TCPHeader.byteCount else { return 0 }
        let header = packet.tcp(at: transport)
        let length = header.dataOffset
        let others = TCPHeader.fin | TCPHeader.syn | TCPHeader.rst | TCPHeader.urg | TCPHeader.cwr
        guard length >= TCPHeader.byteCount, transport &+ length <= packet.count,
            header.flags & (TCPHeader.ack | others) == TCPHeader.ack
        else { return 0 }
        return transport &+ length
    }

    /// Bytes of IP and UDP header; 0: none to join. A length that lies would be put right.
    @inline(__always)
    static func headersOfUDP(_ packet: Bytes, _ transport: Int) -> Int {
        packet.count > transport &+ UDPHeader.byteCount
            && Int(packet.udp(at: transport).length) == packet.count &- transport
            ? transport &+ UDPHeader.byteCount : 0
    }

    /// Whether ports are the same: flows are told apart by a hash so far.
    @inline(__always)
    static func continuesUDP(_ head: Bytes, _ packet: Bytes, _ transport: Int) -> Bool {
        head.ports(at: transport).raw == packet.ports(at: transport).raw
            && headersOfUDP(packet, transport) > 0
    }

    /// Whether `packet` is the segment behind `distance` bytes of payload from `head` on. It has
    /// more bytes than `headers`.
    @inline(__always)
    static func continuesTCP(
        _ head: Bytes, _ last: Bytes, _ packet: Bytes, _ transport: Int, _ headers: Int,
        distance: Int
    ) -> Bool {
        // Data offset, flags and window are equal but for PSH, which ends a run.
        let (one, two) = (head.tcp(at: transport), packet.tcp(at: transport))
        guard one.ports.raw == two.ports.raw,
            two.sequenceNumber == one.sequenceNumber &+ UInt32(truncatingIfNeeded: distance),
            one.acknowledgmentNumber == two.acknowledgmentNumber,
            (one.offsetToWindow ^ two.offsetToWindow) & ~(UInt32(TCPHeader.psh) << 16) == 0,
            last.tcp(at: transport).flags & TCPHeader.psh == 0,
            one.urgentPointer == two.urgentPointer
        else { return false }
        var offset = transport &+ TCPHeader.byteCount
        while offset < headers {
            if head.u32(offset) != packet.u32(offset) { return false }
            offset &+= 4
        }
        return true
    }

    @inline(__always)
    static func hasRightChecksum(
        _ packet: Bytes, _ vnet: VirtioHeader, isTCP: Bool, _ transport: Int
    ) -> Bool {
        let length = packet.count &- transport
        let sum = packet.pseudoHeaderSum(isIPv4: transport == IPv4Header.byteCount, length: length)
        let offset = isTCP ? TCPHeader.Offset.checksum : UDPHeader.Offset.checksum
        let field: UInt16 = packet.raw(transport &+ offset)
        if vnet.flags & VirtioHeader.needsChecksum != 0 {
            // Still to be finished: what stands there must be the pseudo-header's sum.
            return Checksum.folded(sum) == field
        }
        // Two values mean the same sum, and which of them the kernel writes for TCP depends on
        // who finishes the checksum. For UDP 0 means that there is none.
        if field == 0 || (isTCP && field == 0xffff) { return false }
        return Checksum.folded(packet.wideSum(from: transport, adding: sum)) == 0xffff
    }
}
