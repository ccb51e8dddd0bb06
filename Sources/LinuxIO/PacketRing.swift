// An AF_PACKET receive ring (TPACKET_V2) on one interface: slots that the kernel fills and we give back.
// V2 hands each slot over at once; V3 keeps a block for its timer, a millisecond of latency.

import CLinux
import Glibc
import Synchronization

/// What a slot holds, as the kernel left it.
@frozen
public struct Slot {
    /// Where it begins, for `Slots.release`.
    public let start: UnsafeMutableRawPointer
    /// The frame's link-layer header; ten bytes before it stands the `virtio_net_hdr`.
    public let frame: UnsafeMutableRawPointer
    /// Bytes at `frame`.
    public let capturedLength: Int
    /// Bytes that were on the wire.
    public let wireLength: Int
    /// Bytes of link-layer header.
    public let linkLength: Int
    /// The whole frame did not fit and waits in the socket's queue: `PacketRing.receive`.
    public let isCopied: Bool
    /// For this host (`sll_pkttype`), and untagged or of VLAN 0.
    public let isForUs: Bool

    @inlinable @inline(__always)
    init(
        start: UnsafeMutableRawPointer, frame: UnsafeMutableRawPointer, capturedLength: Int,
        wireLength: Int, linkLength: Int, isCopied: Bool, isForUs: Bool
    ) {
        self.start = start
        self.frame = frame
        self.capturedLength = capturedLength
        self.wireLength = wireLength
        self.linkLength = linkLength
        self.isCopied = isCopied
        self.isForUs = isForUs
    }
}

public final class PacketRing: @unchecked Sendable {
    // @unchecked: the slots are one worker's; the statistics have a lock.

    public let descriptor: Descriptor
    public let interface: String
    public let interfaceIndex: Int32
    public let slotCount: Int
    public let slotSize: Int
    /// Bytes that frames larger than a slot may take on their way; as many as the ring has, unless
    /// the kernel allows less.
    public let queueBytes: Int
    private let memory: UnsafeMutableRawPointer
    public let byteCount: Int
    /// The slot that the kernel fills next, as the worker that left the ring last knew it.
    public var cursor = 0
    private let statistics = Mutex<UInt64>(0)

    /// Bytes that hold the largest frame that GRO makes (64 KiB and headers), and its header.
    public static let frameBytesMax = 68 << 10

    public static let virtioHeaderBytes = 10

    /// Opens a ring that yet receives nothing: `startReceiving` lets frames in.
    /// - Parameters:
    ///   - slotSize: bytes, a power of two of at least 2048; larger frames take the long way.
    ///   - fanout: the group to spread the interface's frames over; nil for a ring of its own.
    public init(
        interface: String, index: Int32, slotSize: Int, slotCount: Int, fanout: FanoutGroup?
    ) throws(SystemError) {
        self.interface = interface
        interfaceIndex = index
        self.slotSize = slotSize
        self.slotCount = slotCount
        byteCount = slotSize * slotCount
        let number = try check("socket(AF_PACKET)", interface, grant: Self.rawGrant) {
            socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        descriptor = Descriptor(number)
        try Self.configure(descriptor, interface, slotSize, slotCount)
        queueBytes = Self.limitQueue(descriptor, Int32(clamping: byteCount))
        let mapped = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, number, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw SystemError("mmap(PACKET_RX_RING)", interface, errno: errno)
        }
        memory = mapped
        try SocketFilter.attach(SocketFilter.nothing, to: descriptor, interface)
        try bindToInterface()
        if let fanout { try fanout.join(descriptor, interface) }
    }

    deinit { munmap(memory, byteCount) }

    private static let rawGrant =
        """
        grant CAP_NET_RAW (setcap cap_net_admin,cap_net_raw,cap_bpf+ep, or AmbientCapabilities= in \
        the unit)
        """

    private static func configure(
        _ descriptor: Descriptor, _ interface: String, _ slotSize: Int, _ slotCount: Int
    ) throws(SystemError) {
        func set(_ option: Int32, _ value: Int32, _ name: String) throws(SystemError) {
            try descriptor.setOption(SOL_PACKET, option, value, "setsockopt(\(name))", interface)
        }
        try set(PACKET_VERSION, Int32(TPACKET_V2.rawValue), "PACKET_VERSION")
        // Before the ring: afterwards the kernel answers EBUSY.
        try set(PACKET_VNET_HDR, 1, "PACKET_VNET_HDR")
        try set(PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING")
        // A frame that GRO joined exceeds its slot: queue all of it to the socket as well.
        try set(PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH")
        let blockSize = max(slotSize, 256 << 10)
        let request = tpacket_req(
            tp_block_size: UInt32(blockSize),
            tp_block_nr: UInt32(slotSize * slotCount / blockSize),
            tp_frame_size: UInt32(slotSize), tp_frame_nr: UInt32(slotCount))
        try descriptor.setOption(
            SOL_PACKET, PACKET_RX_RING, request, "setsockopt(PACKET_RX_RING)", interface)
    }

    /// - Returns: what the kernel granted, in bytes. Without CAP_NET_ADMIN in the host's own user
    ///   namespace that is no more than net.core.rmem_max.
    private static func limitQueue(_ descriptor: Descriptor, _ bytes: Int32) -> Int {
        var asked = bytes
        for option in [SO_RCVBUFFORCE, SO_RCVBUF]
        where setsockopt(descriptor.number, SOL_SOCKET, option, &asked, socklen_t(4)) == 0 { break }
        var granted: Int32 = 0
        var length = socklen_t(4)
        guard getsockopt(descriptor.number, SOL_SOCKET, SO_RCVBUF, &granted, &length) == 0 else {
            return 0
        }
        // The kernel doubles what is asked, for its own bookkeeping.
        return Int(granted) / 2
    }

    private func bindToInterface() throws(SystemError) {
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        // ETH_P_ALL: a tap for one protocol stands behind the ingress hook that claims frames.
        address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
        address.sll_ifindex = interfaceIndex
        try check("bind(AF_PACKET)", interface) {
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor.number, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
                }
            }
        }
    }

    /// Lets no more frames in; those that are there stay.
    public func stopReceiving() throws(SystemError) {
        try SocketFilter.attach(SocketFilter.nothing, to: descriptor, interface)
    }

    /// Lets in what a filter accepts. Frames before this are never seen.
    /// - Parameter filter: classic BPF, instructions of 8 bytes. Called again, it changes between two
    ///   frames.
    public func startReceiving(_ filter: [UInt64]) throws(SystemError) {
        try SocketFilter.attach(filter, to: descriptor, interface)
    }

    /// First address of the mapping.
    public var start: UInt { UInt(bitPattern: memory) }

    /// The slots as the worker's loop reads them. Valid while the ring lives.
    public var slots: Slots { Slots(memory: memory, size: slotSize, count: slotCount) }

    /// Takes the frame that `Slot.isCopied` announced: `virtio_net_hdr`, then the frame. An error of
    /// the socket, such as ENETDOWN, is told once in the place of a frame; frames of slots that went
    /// without theirs stand before it and are skipped.
    /// - Parameter wireLength: the slot's, by which its frame is known.
    /// - Returns: bytes written to `buffer`, or 0 when the queue does not hold the frame.
    public func receive(
        into buffer: UnsafeMutableRawPointer, capacity: Int, wireLength: Int
    ) -> Int {
        let expected = min(wireLength + Self.virtioHeaderBytes, capacity)
        var failures = 0
        while failures < 3 {
            let count = recv(descriptor.number, buffer, capacity, Int32(MSG_DONTWAIT))
            if count == expected { return count }
            if count >= 0 || errno == EINTR { continue }
            if errno == EAGAIN { return 0 }
            failures += 1
        }
        return 0
    }

    /// Takes a pending socket error (ENETDOWN after the link went down) out of the way.
    public func clearError() {
        var error: Int32 = 0
        var length = socklen_t(4)
        getsockopt(descriptor.number, SOL_SOCKET, SO_ERROR, &error, &length)
    }

    /// Frames that the kernel dropped because the ring was full, since it was opened.
    /// The kernel's counter starts again at 0 with each reading, so what was read is added up here.
    public func droppedByKernel() -> UInt64 {
        statistics.withLock { total in
            var values = tpacket_stats()
            var length = socklen_t(MemoryLayout<tpacket_stats>.size)
            if getsockopt(descriptor.number, SOL_PACKET, PACKET_STATISTICS, &values, &length) == 0 {
                total &+= UInt64(values.tp_drops)
            }
            return total
        }
    }
}

/// The mapped ring: trivially copyable, so that the loop counts no references.
public struct Slots: @unchecked Sendable, BitwiseCopyable {
    @usableFromInline let memory: UnsafeMutableRawPointer
    @usableFromInline let size: Int
    public let count: Int

    @usableFromInline init(memory: UnsafeMutableRawPointer, size: Int, count: Int) {
        self.memory = memory
        self.size = size
        self.count = count
    }

    /// The frame in a slot, or nil while the slot is the kernel's.
    @inlinable @inline(__always)
    public func slot(at index: Int) -> Slot? {
        let base = memory + index &* size
        let status = clinux_load_acquire(
            UnsafePointer(base.assumingMemoryBound(to: UInt32.self)))
        guard status & UInt32(TP_STATUS_USER) != 0 else { return nil }
        let header = base.assumingMemoryBound(to: tpacket2_hdr.self)
        let mac = Int(header.pointee.tp_mac)
        // sockaddr_ll follows the 32 bytes of the header; at its tenth stands sll_pkttype.
        let packetType = (base + 42).load(as: UInt8.self)
        return Slot(
            start: base, frame: base + mac,
            capturedLength: min(Int(header.pointee.tp_snaplen), size &- mac),
            wireLength: Int(header.pointee.tp_len),
            linkLength: Int(header.pointee.tp_net) &- mac,
            isCopied: status & UInt32(TP_STATUS_COPY) != 0,
            // Without a tag beside the frame the kernel writes 0. VLAN 0 is a priority alone.
            isForUs: packetType == UInt8(PACKET_HOST)
                && header.pointee.tp_vlan_tci & 0x0fff == 0)
    }

    /// Whether a slot holds a frame.
    @inlinable @inline(__always)
    public func isReady(_ index: Int) -> Bool {
        let base = memory + index &* size
        return clinux_load_acquire(UnsafePointer(base.assumingMemoryBound(to: UInt32.self)))
            & UInt32(TP_STATUS_USER) != 0
    }

    /// Asks for header and frame's head of the slot fourth behind one ahead of the time they are read.
    /// Behind the last slot that does nothing.
    @inlinable @inline(__always)
    public func prefetch(after start: UnsafeMutableRawPointer) {
        let slot = start + (4 &* size)
        clinux_prefetch(slot)
        clinux_prefetch(slot + 64)
        clinux_prefetch(slot + 128)
    }

    /// Gives a slot back to the kernel. Its bytes must not be needed any more.
    @inlinable @inline(__always)
    public static func release(_ start: UnsafeMutableRawPointer) {
        clinux_store_release(
            start.assumingMemoryBound(to: UInt32.self), UInt32(TP_STATUS_KERNEL))
    }
}

/// Spreads an interface's frames over sockets by the hash of the inner flow, so that packets of
/// one flow stay in order (net/packet/af_packet.c `fanout_demux_hash`).
public final class FanoutGroup {
    private var id: UInt16?

    public init() {}

    /// Sockets join in the order of their workers.
    func join(_ descriptor: Descriptor, _ interface: String) throws(SystemError) {
        let type = UInt32(PACKET_FANOUT_HASH)
        if let id {
            try descriptor.setOption(
                SOL_PACKET, PACKET_FANOUT, UInt32(id) | type << 16,
                "setsockopt(PACKET_FANOUT)", interface)
            return
        }
        // The kernel picks a number that no other group of this namespace has.
        try descriptor.setOption(
            SOL_PACKET, PACKET_FANOUT, (type | UInt32(PACKET_FANOUT_FLAG_UNIQUEID)) << 16,
            "setsockopt(PACKET_FANOUT)", interface)
        var value: UInt32 = 0
        var length = socklen_t(MemoryLayout<UInt32>.size)
        try check("getsockopt(PACKET_FANOUT)", interface) {
            getsockopt(descriptor.number, SOL_PACKET, PACKET_FANOUT, &value, &length)
        }
        id = UInt16(truncatingIfNeeded: value)
    }
}
