// An AF_PACKET receive ring (TPACKET_V2) on one interface: slots that the kernel fills and we give back.
// V2 hands each slot over at once; V3 keeps a block for its timer, a millisecond of latency.

import CLinux
import Glibc
import Synchronization

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
    /// Where its worker stands.
    public let place: RingPlace
    /// By slot, what a killed worker had taken from the queue.
    var left: [Int: [UInt8]] = [:]
    private let statistics = Mutex<Void>(())

    /// Bytes that hold the largest frame that GRO makes (64 KiB and headers), and its header.
    public static let frameBytesMax = 68 << 10

    public static let virtioHeaderBytes = 10

    /// Opens a ring that yet receives nothing: `startReceiving` lets frames in.
    /// - Parameters:
    ///   - slotSize: bytes, a power of two of at least 2048; larger frames take the long way.
    ///   - fanout: the group to spread the interface's frames over; nil for a ring of its own.
    ///   - place: outlives the ring.
    public convenience init(
        interface: String, index: Int32, slotSize: Int, slotCount: Int, fanout: FanoutGroup?,
        place: RingPlace
    ) throws(SystemError) {
        let descriptor = Descriptor(
            try check("socket(AF_PACKET)", interface, grant: Self.rawGrant) {
                Sockets.open(AF_PACKET, .raw)
            })
        try Self.configure(descriptor, interface, slotSize, slotCount)
        Self.limitQueue(descriptor, Int32(clamping: slotSize * slotCount))
        try self.init(
            adopting: descriptor, interface: interface, index: index, slotSize: slotSize,
            slotCount: slotCount, place: place)
        try SocketFilter.attach(SocketFilter.nothing, to: descriptor, interface)
        try bindToInterface()
        if let fanout { try fanout.join(descriptor, interface) }
    }

    /// Maps a ring that another process opened and handed over. It must have stopped to take frames before
    /// this one begins, at its place.
    /// - Parameters: as the ring was opened.
    public init(
        adopting descriptor: Descriptor, interface: String, index: Int32, slotSize: Int, slotCount: Int,
        place: RingPlace
    ) throws(SystemError) {
        self.place = place
        self.interface = interface
        interfaceIndex = index
        self.slotSize = slotSize
        self.slotCount = slotCount
        self.descriptor = descriptor
        byteCount = slotSize * slotCount
        // The kernel doubles what is asked, for its own bookkeeping.
        queueBytes = Int(descriptor.option(SOL_SOCKET, SO_RCVBUF, Int32(0)) ?? 0) / 2
        memory = try Self.map(descriptor, interface, byteCount)
    }

    deinit { munmap(memory, byteCount) }

    /// The kernel refuses a size that is not the ring's.
    private static func map(
        _ descriptor: Descriptor, _ interface: String, _ byteCount: Int
    ) throws(SystemError) -> UnsafeMutableRawPointer {
        let mapped = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor.number, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw SystemError("mmap(PACKET_RX_RING)", interface, errno: errno)
        }
        return mapped
    }

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

    /// Without CAP_NET_ADMIN in the host's own user namespace the kernel grants no more than
    /// net.core.rmem_max.
    private static func limitQueue(_ descriptor: Descriptor, _ bytes: Int32) {
        var asked = bytes
        for option in [SO_RCVBUFFORCE, SO_RCVBUF]
        where setsockopt(descriptor.number, SOL_SOCKET, option, &asked, socklen_t(4)) == 0 { break }
    }

    private func bindToInterface() throws(SystemError) {
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        // ETH_P_ALL: a tap for one protocol stands behind the ingress hook that claims frames.
        address.sll_protocol = UInt16(ETH_P_ALL).bigEndian
        address.sll_ifindex = interfaceIndex
        try check("bind(AF_PACKET)", interface) {
            Sockets.withAddress(address) { bind(descriptor.number, $0, $1) }
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

    /// Finds where to go on behind a worker that was killed, and gives back what is not tried again.
    public func resume() -> (resumption: RingPlace.Resumption, skipped: [SkippedFrame]) {
        let slots = slots
        let resumption = place.resume(slotCount: slotCount, isReady: slots.isReady)
        var skipped: [SkippedFrame] = []
        for number in resumption.skipped {
            guard let slot = slots.slot(at: number) else { continue }
            let copy = left.removeValue(forKey: number)?.dropFirst(Self.virtioHeaderBytes)
            skipped.append(SkippedFrame(slot, copy: copy))
            Slots.release(slot.start)
        }
        place.settle(at: resumption.cursor)
        return (resumption, skipped)
    }

    /// First address of the mapping.
    public var start: UInt { UInt(bitPattern: memory) }

    /// The slots as the worker's loop reads them. Valid while the ring lives.
    public var slots: Slots { Slots(memory: memory, size: slotSize, count: slotCount) }

    /// Takes the frame that `Slot.isCopied` announced: `virtio_net_hdr`, then the frame. An error of
    /// the socket, such as ENETDOWN, is told once in the place of a frame; frames of slots that went
    /// without theirs stand before it and are skipped.
    /// - Parameters:
    ///   - slot: its number.
    ///   - wireLength: the slot's, by which its frame is known.
    /// - Returns: bytes written to `buffer`, or 0 when the queue does not hold the frame.
    public func receive(
        into buffer: UnsafeMutableRawPointer, capacity: Int, slot: Int, wireLength: Int
    ) -> Int {
        if !left.isEmpty, let copy = left.removeValue(forKey: slot), copy.count <= capacity {
            buffer.copyMemory(from: copy, byteCount: copy.count)
            return copy.count
        }
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
    public func clearError() { _ = descriptor.option(SOL_SOCKET, SO_ERROR, Int32(0)) }

    /// Frames that the kernel dropped because the ring was full, since it was opened by whatever process.
    /// The kernel's counter starts again at 0 with each reading, so what was read is added up in the ring's
    /// place.
    public func droppedByKernel() -> UInt64 {
        statistics.withLock { _ in
            let read = descriptor.option(SOL_PACKET, PACKET_STATISTICS, tpacket_stats())
            return place.addLosses(UInt64(read?.tp_drops ?? 0))
        }
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
        guard let value = descriptor.option(SOL_PACKET, PACKET_FANOUT, UInt32(0)) else {
            throw SystemError("getsockopt(PACKET_FANOUT)", interface, errno: errno)
        }
        id = UInt16(truncatingIfNeeded: value)
    }
}
