// The common packet, accepted in few steps: plain headers, known tunnel, nothing to rewrite.
// It only ever says yes. Whatever it is not sure of goes to the judge, who decides; a test holds
// the two together on random frames.

import Routing

/// Outer headers that the judge has matched to a tunnel. One worker's; emptied for each new world.
public struct OuterCache: @unchecked Sendable, BitwiseCopyable {
    struct Entry: BitwiseCopyable {
        /// Source and destination as they lie in the header: IPv4 in `first` alone.
        var first: UInt64
        var second: UInt64
        var third: UInt64
        var fourth: UInt64
        /// Interface, family and protocol; 0: empty.
        var tag: UInt32
        var tunnel: UInt16
    }

    /// Which flows a batch has held so far, as hashes mixed with the batch's own number.
    private struct Seen: BitwiseCopyable {
        var batch: UInt32 = 0
        /// Whether two packets of the batch may be of one flow.
        var isRepeated = true
    }

    private static let count = 64
    private static let flowCount = 256
    /// Entries, flows and `Seen` one behind the other, so that one register finds them all.
    private let entries: UnsafeMutablePointer<Entry>

    @inline(__always)
    private var flows: UnsafeMutablePointer<UInt32> {
        UnsafeMutableRawPointer(entries + Self.count).assumingMemoryBound(to: UInt32.self)
    }

    @inline(__always)
    private var seen: UnsafeMutablePointer<Seen> {
        UnsafeMutableRawPointer(flows + Self.flowCount).assumingMemoryBound(to: Seen.self)
    }

    public init() {
        let flowBytes = Self.flowCount * MemoryLayout<UInt32>.stride
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: Self.count * MemoryLayout<Entry>.stride + flowBytes
                + MemoryLayout<Seen>.stride,
            alignment: 64)
        entries = memory.bindMemory(to: Entry.self, capacity: Self.count)
        UnsafeMutableRawPointer(entries + Self.count)
            .initializeMemory(as: UInt32.self, repeating: 0, count: Self.flowCount)
        UnsafeMutableRawPointer(flows + Self.flowCount)
            .initializeMemory(as: Seen.self, repeating: Seen(), count: 1)
        empty()
    }

    public func deallocate() { entries.deallocate() }

    /// Forgets the flows of the batch before, by another number to mix them with.
    @inline(__always)
    func beginBatch() {
        seen.pointee.batch &+= 0x9e37_79b9
        seen.pointee.isRepeated = false
    }

    /// Notes the flow of a packet that goes on. Two that share a place may be missed, and are then
    /// not joined.
    @inline(__always)
    func note(flow: UInt32) {
        let key = flow ^ seen.pointee.batch
        let place = flows + Int(key &>> 24)
        if place.pointee == key { seen.pointee.isRepeated = true }
        place.pointee = key
    }

    /// A packet whose flow is not known yet goes on.
    func noteAnyFlow() { seen.pointee.isRepeated = true }

    /// Whether the batch that was judged last may hold two packets of one flow.
    @inline(__always)
    var mayHoldRuns: Bool { seen.pointee.isRepeated }

    public func empty() {
        entries.initialize(
            repeating: Entry(first: 0, second: 0, third: 0, fourth: 0, tag: 0, tunnel: 0),
            count: Self.count)
    }

    @inline(__always)
    func place(_ key: UInt64) -> UnsafeMutablePointer<Entry> {
        // Fibonacci hashing: the top six bits of the product are well mixed.
        entries + Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) &>> 58)
    }

    @inline(__always)
    static func tag(_ frame: UnsafePointer<Frame>, protocolNumber: UInt8) -> UInt32 {
        UInt32(frame.pointee.interface) << 16 | UInt32(frame.pointee.etherType & 0xff) << 8
            | UInt32(protocolNumber) | 0x8000_0000
    }

    /// Remembers the tunnel of a frame that the judge let in.
    package func insert(_ frame: UnsafePointer<Frame>, tunnel: UInt16) {
        let header = frame.pointee.network
        func word(_ offset: Int) -> UInt64 {
            header.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
        if frame.pointee.etherType == 0x0800 {
            place(word(12)).pointee = Entry(
                first: word(12), second: 0, third: 0, fourth: 0,
                tag: Self.tag(frame, protocolNumber: header.load(fromByteOffset: 9, as: UInt8.self)),
                tunnel: tunnel)
        } else {
            place(word(16)).pointee = Entry(
                first: word(8), second: word(16), third: word(24), fourth: word(32),
                tag: Self.tag(frame, protocolNumber: header.load(fromByteOffset: 6, as: UInt8.self)),
                tunnel: tunnel)
        }
    }
}

enum FastPath {
    /// What a plain outer header of a known tunnel leaves.
    private struct Opened {
        var offset: Int
        var length: Int
        var tunnel: UInt16
        var mode: Mode
        var ecn: UInt8
    }

    /// Writes the verdict and says true when the packet is plain and goes on as it is.
    @inline(__always)
    static func accepts(
        _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard frame.pointee.isForUs, frame.pointee.length == frame.pointee.wireLength else {
            return false
        }
        switch frame.pointee.etherType {
        case 0x0800:
            guard let opened = openIPv4(frame, cache) else { return false }
            return judge(opened, frame, world, cache, verdict)
        case 0x86dd:
            guard let opened = openIPv6(frame, cache) else { return false }
            return judge(opened, frame, world, cache, verdict)
        default: return false
        }
    }

    @inline(__always)
    private static func openIPv4(
        _ frame: UnsafePointer<Frame>, _ cache: OuterCache
    ) -> Opened? {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= 40 else { return nil }
        let total = Int(packet.u16(2))
        // 20 bytes of header, no more-fragments, no offset.
        guard packet.u8(0) == 0x45, total <= packet.count, total >= 40,
            packet.u16(6) & 0x3fff == 0, packet.hasValidChecksum20()
        else { return nil }
        let key = packet.base.loadUnaligned(fromByteOffset: 12, as: UInt64.self)
        let number = packet.u8(9)
        let entry = cache.place(key)
        guard entry.pointee.first == key,
            entry.pointee.tag == OuterCache.tag(frame, protocolNumber: number)
        else { return nil }
        return Opened(
            offset: 20, length: total &- 20, tunnel: entry.pointee.tunnel,
            mode: number == ProtocolNumber.ipv4 ? .ipip : .ip6ip, ecn: packet.u8(1) & 3)
    }

    @inline(__always)
    private static func openIPv6(
        _ frame: UnsafePointer<Frame>, _ cache: OuterCache
    ) -> Opened? {
        let packet = Bytes(frame.pointee.network, count: frame.pointee.length)
        guard packet.count >= 60 else { return nil }
        let payload = Int(packet.u16(4))
        let number = packet.u8(6)
        guard packet.u8(0) >> 4 == 6, payload &+ 40 <= packet.count, payload >= 20,
            ProtocolNumber.isTunnel(number)
        else { return nil }
        let base = packet.base
        let second = base.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        let entry = cache.place(second)
        guard entry.pointee.second == second,
            entry.pointee.tag == OuterCache.tag(frame, protocolNumber: number),
            entry.pointee.first == base.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            entry.pointee.third == base.loadUnaligned(fromByteOffset: 24, as: UInt64.self),
            entry.pointee.fourth == base.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
        else { return nil }
        return Opened(
            offset: 40, length: payload, tunnel: entry.pointee.tunnel,
            mode: number == ProtocolNumber.ipv4 ? .ipip6 : .ip6ip6,
            ecn: UInt8(truncatingIfNeeded: packet.u16(0) >> 4) & 3)
    }

    @inline(__always)
    private static func judge(
        _ opened: Opened, _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ cache: OuterCache, _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        let packet = Bytes(frame.pointee.network + opened.offset, count: opened.length)
        return opened.mode.innerIsIPv4
            ? judgeIPv4(packet, opened, frame, world, cache, verdict)
            : judgeIPv6(packet, opened, frame, world, cache, verdict)
    }

    @inline(__always)
    private static func judgeIPv4(
        _ packet: Bytes, _ opened: Opened, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard packet.count >= 28 else { return false }
        let length = Int(packet.u16(2))
        let number = packet.u8(9)
        let cell = (packet.u8(1) & 3) << 2 | opened.ecn
        guard packet.u8(0) == 0x45, length <= packet.count, length >= 28,
            packet.u16(6) & 0x3fff == 0, packet.u8(8) != 0,
            world.pointee.policy.untouchedCells &>> UInt16(cell) & 1 != 0,
            isPlain(packet, number, transport: 20, end: length),
            packet.hasValidChecksum20()
        else { return false }
        let source = packet.u32(12)
        guard world.pointee.policy.sources.lookup(ipv4: source) == 0,
            isReachable(world.pointee.routes?.lookup(ipv4: source), frame, world)
        else { return false }
        let tunnel = world.pointee.policy.tunnels + Int(opened.tunnel)
        let list = tunnel.pointee.destinations.lookup(ipv4: packet.u32(16))
        return finish(
            opened, frame, world, cache, verdict, list: list, number, port: packet.u16(22),
            transport: 20, length: length, cell, flow: Flow.ofIPv4(packet))
    }

    @inline(__always)
    private static func judgeIPv6(
        _ packet: Bytes, _ opened: Opened, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>, _ cache: OuterCache,
        _ verdict: UnsafeMutablePointer<Verdict>
    ) -> Bool {
        guard packet.count >= 48 else { return false }
        let length = 40 &+ Int(packet.u16(4))
        let number = packet.u8(6)
        let cell = UInt8(truncatingIfNeeded: packet.u16(0) >> 2) & 0b1100 | opened.ecn
        guard packet.u8(0) >> 4 == 6, length <= packet.count, length >= 48, packet.u8(7) != 0,
            world.pointee.policy.untouchedCells &>> UInt16(cell) & 1 != 0,
            isPlain(packet, number, transport: 40, end: length)
        else { return false }
        let source = Address(high: packet.u64(8), low: packet.u64(16))
        let destination = Address(high: packet.u64(24), low: packet.u64(32))
        guard !source.isIPv4, !destination.isIPv4,
            world.pointee.policy.sources.lookup(ipv6: source) == 0,
            isReachable(world.pointee.routes?.lookup(ipv6: source), frame, world)
        else { return false }
        let tunnel = world.pointee.policy.tunnels + Int(opened.tunnel)
        return finish(
            opened, frame, world, cache, verdict,
            list: tunnel.pointee.destinations.lookup(ipv6: destination), number,
            port: packet.u16(42), transport: 40, length: length, cell,
            flow: Flow.ofIPv6(packet))
    }

    /// UDP, or TCP without SYN: nothing to clamp.
    @inline(__always)
    private static func isPlain(
        _ packet: Bytes, _ number: UInt8, transport: Int, end: Int
    ) -> Bool {
        if number == ProtocolNumber.udp { return true }
        return number == ProtocolNumber.tcp && end >= transport &+ 20
            && packet.u8(transport &+ 13) & TCP.syn == 0
    }

    @inline(__always)
    private static func isReachable(
        _ record: RouteRecord?, _ frame: UnsafePointer<Frame>,
        _ world: UnsafePointer<WorldView>
    ) -> Bool {
        guard let record, let routes = world.pointee.routes else { return true }
        guard record.kind == .unicast else { return false }
        let state = world.pointee.interfaces + Int(frame.pointee.interface)
        switch state.pointee.reversePath {
        case .strict: return routes.bestUses(record, interface: state.pointee.index)
        case .off, .loose: return true
        default: return false
        }
    }

    @inline(__always)
    private static func finish(
        _ opened: Opened, _ frame: UnsafePointer<Frame>, _ world: UnsafePointer<WorldView>,
        _ cache: OuterCache, _ verdict: UnsafeMutablePointer<Verdict>, list number: UInt32,
        _ protocolNumber: UInt8, port: UInt16, transport: Int, length: Int, _ cell: UInt8,
        flow: UInt32
    ) -> Bool {
        let list = world.pointee.policy.lists + Int(number)
        guard !list.pointee.isMartian else { return false }
        var rule = world.pointee.policy.rules + Int(list.pointee.first)
        let end = rule + Int(list.pointee.count)
        while rule < end {
            if rule.pointee.protocolNumber == DestinationRule.anyProtocol { break }
            if rule.pointee.protocolNumber == UInt16(protocolNumber) {
                if rule.pointee.portCount == 0 { break }
                if DestinationCheck.contains(rule, port, world.pointee.policy.ports) { break }
            }
            rule += 1
        }
        guard rule < end, length <= Int(rule.pointee.mtu) else { return false }
        // The slot holds what an earlier frame left there.
        verdict.pointee.vnet = VirtioHeader()
        let vnet = frame.pointee.vnet
        if vnet.flags & VirtioHeader.needsChecksum != 0 || vnet.gsoType != VirtioHeader.gsoNone {
            var inner = Inner()
            inner.length = length
            inner.protocolNumber = protocolNumber
            inner.transportOffset = transport
            guard Offload.rebase(
                &verdict.pointee.vnet, frame, strip: frame.pointee.linkLength &+ opened.offset,
                inner, opened.mode) == .none
            else { return false }
        }
        verdict.pointee.accept(
            mode: opened.mode, tunnel: opened.tunnel, device: rule.pointee.device,
            destination: rule.pointee.index, ecnCell: cell, offset: opened.offset, length: length,
            flow: flow)
        cache.note(flow: flow)
        return true
    }
}

extension Verdict {
    /// Everything but `vnet`, of a packet that goes on unchanged.
    @inline(__always)
    fileprivate mutating func accept(
        mode: Mode, tunnel: UInt16, device: UInt16, destination: UInt16, ecnCell: UInt8,
        offset: Int, length: Int, flow: UInt32
    ) {
        kind = .inject
        reason = .none
        self.mode = mode
        self.ecnCell = ecnCell
        clampedMSS = false
        unclampedMSS = false
        self.tunnel = tunnel
        self.device = device
        self.destination = destination
        headLength = 0
        self.offset = UInt32(truncatingIfNeeded: offset)
        self.length = UInt32(truncatingIfNeeded: length)
        self.flow = flow
    }
}
