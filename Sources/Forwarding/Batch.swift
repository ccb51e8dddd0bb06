// A batch of frames as a function: `plan` gives each its verdict and lists the writes that follow,
// `settle` takes their results. No clock, no descriptor, no system call: the driver has those.

import IP

/// One driver's memory for batches, allocated once. The driver puts frames in, calls `plan`, performs the
/// operations and calls `settle` until nothing is left to do. `verdicts` are final then.
public struct Batch: @unchecked Sendable, BitwiseCopyable {
    // @unchecked: one thread's.

    /// One packet that leaves, or several of a flow joined to one: where to, and which bytes.
    public struct Operation: BitwiseCopyable {
        public enum Target: UInt8, Sendable, BitwiseCopyable {
            /// `virtio_net_hdr` and an IP packet, to a queue of the device `index`.
            case device
            /// An ICMP message without its IP header, to `Batch.receiver`.
            case icmpError
            /// A whole IPv6 packet, out of the interface of the rule `index` of `Policy.rewrites`.
            case probeReturn
        }

        /// A part of the bytes. Laid out as `iovec` (POSIX.1-2017 <sys/uio.h>).
        public struct Piece: BitwiseCopyable {
            public var base: UnsafeRawPointer
            public var count: Int
        }

        /// `pieceCount` pieces to be gathered; without any the bytes themselves.
        public fileprivate(set) var memory: UnsafeRawPointer
        /// Bytes of all pieces: the result of a write that succeeds.
        public fileprivate(set) var length: Int32
        /// The driver's: what write(2) says, bytes or a negative errno.
        public var result: Int32 = 0
        /// The frame that it carries; of a joined packet the first.
        public fileprivate(set) var frame: UInt16
        public fileprivate(set) var index: UInt16
        public fileprivate(set) var pieceCount: UInt16 = 0
        public fileprivate(set) var target: Target
        /// What the kernel is to cut again; empty for a packet that came in as it goes out.
        public fileprivate(set) var joined: Coalescer.Kinds = []

        @inlinable @inline(__always)
        public var pieces: UnsafePointer<Piece> { memory.assumingMemoryBound(to: Piece.self) }

        /// All of it, copied.
        public var content: [UInt8] {
            if pieceCount == 0 {
                return Array(UnsafeRawBufferPointer(start: memory, count: Int(length)))
            }
            return (0..<Int(pieceCount)).flatMap {
                UnsafeRawBufferPointer(start: pieces[$0].base, count: pieces[$0].count)
            }
        }

        /// The kernel refused to cut a joined packet, though it agreed to do so (`TUNSETOFFLOAD`).
        public var isRefusedJoin: Bool { !joined.isEmpty && result == -ErrorNumber.invalid }
    }

    /// What is to be done about a batch.
    public struct Plan {
        /// The places of its operations.
        public let operations: Range<Int>
        /// Joining saved at least half of the writes, so that more of these flows is on its way.
        public let savesWrites: Bool
    }

    /// What a driver decides for all batches until it decides anew.
    struct State: BitwiseCopyable {
        var tables: UnsafePointer<ForwardingView>
        /// nil: no ICMP errors are sent.
        var errors: ICMPErrorTokens?
        /// nil: no limit.
        var limits: PacketLimits?
        var isShadow: Bool
        var joinsAny: Bool
        /// Writes to devices of the batch in work that were not in vain.
        var writes = 0
    }

    /// Frames that fit, at most.
    public static let capacityMax = 256
    /// Bytes of a frame's own memory: 6 of padding, `virtio_net_hdr`, rewritten head.
    private static let scratchBytes = 16 + Limits.headBytes

    public let capacity: Int
    public let frames: UnsafeMutablePointer<Frame>
    public let verdicts: UnsafeMutablePointer<Verdict>
    /// Those of the plan, then those that follow from refused ones.
    public let operations: UnsafeMutablePointer<Operation>
    package let cache: OuterCache
    let coalescer: Coalescer
    /// What may be joined for each device.
    let kinds: UnsafeMutablePointer<Coalescer.Kinds>
    private let state: UnsafeMutablePointer<State>
    /// Two for a single packet; one for each packet of a joined one, and one for its headers.
    private let pieces: UnsafeMutablePointer<Operation.Piece>
    private let scratch: UnsafeMutableRawPointer

    /// Bytes that a batch of so many frames lies in.
    public static func byteCount(capacity: Int) -> Int {
        let each =
            scratchBytes + MemoryLayout<Frame>.stride + MemoryLayout<Verdict>.stride
            + 2 * MemoryLayout<Operation>.stride + 2 * MemoryLayout<Operation.Piece>.stride
            + Coalescer.bytesPerPacket
        return OuterCache.byteCount + MemoryLayout<State>.stride + Limits.devices.value
            + Coalescer.tableBytes + capacity * each
    }

    /// To be called once, and `adopt` before the first plan.
    /// - Parameter memory: `byteCount` bytes at a multiple of 128 that outlive it.
    /// - Parameter capacity: frames that fit, at most `capacityMax`.
    public init(in memory: UnsafeMutableRawPointer, capacity: Int) {
        precondition((1...Self.capacityMax).contains(capacity))
        self.capacity = capacity
        var next = memory + OuterCache.byteCount
        func take<T>(_: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
            defer { next += count * MemoryLayout<T>.stride }
            return next.bindMemory(to: T.self, capacity: count)
        }
        cache = OuterCache(in: memory)
        scratch = UnsafeMutableRawPointer(take(UInt8.self, capacity * Self.scratchBytes))
        frames = take(Frame.self, capacity)
        pieces = take(Operation.Piece.self, 2 * capacity)
        state = take(State.self, 1)
        operations = take(Operation.self, 2 * capacity)
        verdicts = take(Verdict.self, capacity)
        coalescer = Coalescer(capacity: capacity) { take($0, $1) }
        kinds = take(Coalescer.Kinds.self, Limits.devices.value)
        kinds.initialize(repeating: [], count: Limits.devices.value)
    }

    /// Takes effect with the next plan: other tables, and what goes with them.
    /// - Parameter tables: their owner must outlive the last plan with them.
    /// - Parameter kinds: what may be joined for each of the policy's devices.
    /// - Parameter errors: nil: no ICMP errors are sent.
    /// - Parameter limits: nil: no limit.
    /// - Parameter isShadow: frames are judged, and nothing leaves.
    public func adopt(
        _ tables: UnsafePointer<ForwardingView>, kinds: [Coalescer.Kinds], errors: ICMPErrorTokens?,
        limits: PacketLimits? = nil, isShadow: Bool
    ) {
        for (index, kind) in kinds.enumerated() { self.kinds[index] = kind }
        state.initialize(
            to: State(
                tables: tables, errors: errors, limits: limits, isShadow: isShadow,
                joinsAny: kinds.contains { !$0.isEmpty }))
        cache.empty()
    }

    /// Where the head of the frame at a place is rewritten: for `Frame.head`.
    @inline(__always)
    public func head(_ place: Int) -> UnsafeMutableRawPointer {
        scratch + (place &* Self.scratchBytes &+ 16)
    }

    /// Writes to devices of the last plan, without joined ones that were refused.
    public var writes: Int { state.pointee.writes }
}

// MARK: - Plan

extension Batch {
    /// Judges the frames at the first `count` places and lists what leaves: packets in the frames' order,
    /// then ICMP errors.
    /// - Parameter reassembler: without one outer fragments are refused.
    /// - Parameter now: nanoseconds of a clock that does not go back.
    /// - Parameter arrivals: when each frame came, by the same clock; nil: all of them `now`.
    public func plan(
        count: Int, reassembler: Reassembler?, now: UInt64, arrivals: UnsafePointer<UInt64>? = nil
    ) -> Plan {
        var times = ArrivalTimes(first: frames, now: now, each: arrivals)
        Judge.judge(
            frames, into: verdicts, count: count, tables: state.pointee.tables, cache: cache,
            reassembler: reassembler, times: &times)
        if let limits = state.pointee.limits { apply(limits, count, times) }
        return list(count, times)
    }

    /// What leaves of a judged batch.
    func list(_ count: Int, _ times: ArrivalTimes) -> Plan {
        state.pointee.writes = 0
        if state.pointee.isShadow { return Plan(operations: 0..<0, savesWrites: false) }
        // Such a batch is looked at again only when some flow may have come twice.
        let saved =
            state.pointee.joinsAny && cache.mayHoldRuns
            ? coalescer.join(frames, verdicts, count, kinds) : 0
        var piece = pieces
        // Made twice by inlining: the one for batches without joined packets calls nothing, so that all it
        // needs is in registers.
        var (end, hasErrors) =
            saved == 0
            ? add(count, isJoined: false, &piece) : add(count, isJoined: true, &piece)
        state.pointee.writes = end - operations
        if hasErrors { addErrors(count, times, to: &end, &piece) }
        return Plan(operations: 0..<(end - operations), savesWrites: 2 &* saved >= count)
    }

    /// - Returns: where the operations end so far, and whether some frame is to be answered.
    @inline(__always)
    private func add(
        _ count: Int, isJoined: Bool, _ piece: inout UnsafeMutablePointer<Operation.Piece>
    ) -> (UnsafeMutablePointer<Operation>, Bool) {
        var operation = operations
        var kinds: UInt8 = 0
        var (index, own) = (0, head(0))
        var (frame, verdict) = (UnsafePointer(frames), UnsafePointer(verdicts))
        while index < count {
            kinds |= verdict.pointee.kind.rawValue
            if verdict.pointee.kind == .inject, !isJoined || !coalescer.isFollower(index) {
                if isJoined && coalescer.isFirst(index) {
                    addRun(index, verdict, to: operation, &piece)
                } else {
                    Self.addPacket(index, frame, verdict, own, to: operation, &piece)
                }
                operation += 1
            }
            index &+= 1
            frame += 1
            verdict += 1
            own += Self.scratchBytes
        }
        // Of the kinds' numbers only this one has its bit.
        return (operation, kinds & Verdict.Kind.reply.rawValue != 0)
    }

    /// Header and rewritten head come from the frame's own memory: the slot stays as it was received, so
    /// that another process could judge it again.
    @inline(__always)
    private static func addPacket(
        _ index: Int, _ frame: UnsafePointer<Frame>, _ verdict: UnsafePointer<Verdict>,
        _ own: UnsafeMutableRawPointer, to operation: UnsafeMutablePointer<Operation>,
        _ piece: inout UnsafeMutablePointer<Operation.Piece>
    ) {
        let header = own - VirtioHeader.byteCount
        header.storeBytes(of: verdict.pointee.vnet, as: VirtioHeader.self)
        let head = Int(verdict.pointee.headLength)
        let length = Int(verdict.pointee.length)
        let rest = frame.pointee.network + (Int(verdict.pointee.offset) &+ head)
        operation.initialize(
            to: Operation(
                memory: header,
                length: Int32(truncatingIfNeeded: VirtioHeader.byteCount &+ length),
                frame: UInt16(truncatingIfNeeded: index), index: verdict.pointee.device,
                target: .device))
        if length <= Limits.headBytes {
            // A small packet costs less copied here than gathered from two places by the kernel.
            (own + head).copySmall(from: rest, length &- head)
            return
        }
        piece.initialize(to: .init(base: header, count: VirtioHeader.byteCount &+ head))
        (piece + 1).initialize(to: .init(base: rest, count: length &- head))
        operation.pointee.memory = UnsafeRawPointer(piece)
        operation.pointee.pieceCount = 2
        piece += 2
    }

    /// The headers of a joined packet, then each packet's payload from its slot.
    private func addRun(
        _ first: Int, _ verdict: UnsafePointer<Verdict>,
        to operation: UnsafeMutablePointer<Operation>,
        _ piece: inout UnsafeMutablePointer<Operation.Piece>
    ) {
        let run = coalescer.seal(first, frames, verdicts)
        let header = head(first) - VirtioHeader.byteCount
        header.storeBytes(of: run.vnet, as: VirtioHeader.self)
        operation.initialize(
            to: Operation(
                memory: piece,
                length: Int32(truncatingIfNeeded: VirtioHeader.byteCount &+ run.length),
                frame: UInt16(truncatingIfNeeded: first), index: verdict.pointee.device,
                pieceCount: UInt16(truncatingIfNeeded: run.count &+ 1), target: .device,
                joined: run.vnet.gsoType == VirtioHeader.gsoUDP ? .udp : .tcp))
        piece.initialize(to: .init(base: header, count: VirtioHeader.byteCount &+ run.headers))
        piece += 1
        coalescer.forEachMember(of: first) { index in
            piece.initialize(
                to: .init(
                    base: frames[index].network + (Int(verdicts[index].offset) &+ run.headers),
                    count: Int(verdicts[index].length) &- run.headers))
            piece += 1
        }
    }

    /// Tells senders, at a rate that no flood can drive; what is not told is a drop.
    @inline(never)
    private func addErrors(
        _ count: Int, _ times: ArrivalTimes, to end: inout UnsafeMutablePointer<Operation>,
        _ piece: inout UnsafeMutablePointer<Operation.Piece>
    ) {
        for index in 0..<count where verdicts[index].kind == .reply {
            let verdict = verdicts + index
            guard let errors = state.pointee.errors, errors.take(now: times.of(frames + index))
            else {
                verdict.pointee.kind = .drop
                continue
            }
            let mtu = state.pointee.tables.pointee.policy.deviceMTUs[Int(verdict.pointee.device)]
            let quoted = ICMPErrorMessage.write(
                to: head(index), frames[index], verdict.pointee, mtu: Int(mtu))
            piece.initialize(to: .init(base: head(index), count: ICMPErrorMessage.headerBytes))
            (piece + 1).initialize(
                to: .init(base: frames[index].network + Int(verdict.pointee.offset), count: quoted))
            end.initialize(
                to: Operation(
                    memory: piece,
                    length: Int32(truncatingIfNeeded: ICMPErrorMessage.headerBytes + quoted),
                    frame: UInt16(truncatingIfNeeded: index), index: 0, pieceCount: 2,
                    target: .icmpError))
            piece += 2
            end += 1
        }
    }

    /// The inner source of the frame that an ICMP error answers: 4 or 16 bytes.
    public func receiver(of operation: Operation) -> UnsafeRawBufferPointer {
        let verdict = verdicts[Int(operation.frame)]
        let isIPv4 = verdict.mode.innerIsIPv4
        return UnsafeRawBufferPointer(
            start: frames[Int(operation.frame)].network + Int(verdict.offset)
                + (isIPv4 ? IPv4Header.Offset.source : IPv6Header.Offset.source),
            count: isIPv4 ? 4 : 16)
    }

    /// The places of the frames that an operation carries, in order.
    public func forEachFrame(of operation: Operation, _ body: (Int) -> Void) {
        if operation.joined.isEmpty { return body(Int(operation.frame)) }
        coalescer.forEachMember(of: Int(operation.frame), body)
    }

    /// What a pod answered to a probe, as the kernel routed it to a device: on its way back out.
    /// - Parameter packet: `virtio_net_hdr` and an IP packet; it is rewritten in place.
    /// - Returns: nil when it is no answer, and then it was not touched.
    public func planReturn(_ packet: UnsafeMutableRawPointer, count: Int) -> Operation? {
        let length = count - VirtioHeader.byteCount
        guard length > 0 else { return nil }
        let header = packet.loadUnaligned(as: VirtioHeader.self)
        let bytes = packet + VirtioHeader.byteCount
        // What was queued before the device was told to finish its packets.
        guard header.flags & VirtioHeader.needsChecksum == 0,
            header.gsoType == VirtioHeader.gsoNone,
            let rule = AnswerRewrite.apply(bytes, count: length, tables: state.pointee.tables)
        else { return nil }
        return Operation(
            memory: bytes, length: Int32(length), frame: 0, index: UInt16(rule),
            target: .probeReturn)
    }
}

// MARK: - Settle

/// Linux's numbers (include/uapi/asm-generic/errno-base.h, errno.h).
private enum ErrorNumber {
    static let again: Int32 = 11
    static let noMemory: Int32 = 12
    static let invalid: Int32 = 22
    static let noBuffers: Int32 = 105
}

extension Batch {
    /// Puts results into verdicts.
    /// - Parameter performed: the plan's operations, or those that the last call returned.
    /// - Returns: nil: all succeeded. Else what is still to be performed, if anything: packets that the
    ///   kernel refused to take joined.
    public func settle(_ performed: Range<Int>) -> Range<Int>? {
        var index = performed.lowerBound
        while index < performed.upperBound {
            if operations[index].result != operations[index].length {
                return settleFailures(performed)
            }
            index &+= 1
        }
        return nil
    }

    @inline(never)
    private func settleFailures(_ performed: Range<Int>) -> Range<Int> {
        var end = operations + performed.upperBound
        // All was written that these described.
        var piece = pieces
        for index in performed where operations[index].result != operations[index].length {
            let operation = operations[index]
            let first = Int(operation.frame)
            if operation.target == .icmpError {
                verdicts[first].kind = .drop
                continue
            }
            let isJoined = !operation.joined.isEmpty
            var reason = refusal(
                operation.result,
                isCut: isJoined || verdicts[first].vnet.gsoType != VirtioHeader.gsoNone)
            guard isJoined else {
                verdicts[first].refuse(reason)
                continue
            }
            state.pointee.writes &-= 1
            if operation.isRefusedJoin {
                // Nothing of the kind is joined for this device again.
                kinds[Int(operation.index)].remove(operation.joined)
                reason = isOvertaken(index, in: performed) ? .gsoInvalid : .none
            }
            coalescer.forEachMember(of: first) { member in
                if reason != .none { return verdicts[member].refuse(reason) }
                Self.addPacket(
                    member, frames + member, verdicts + member, head(member), to: end, &piece)
                state.pointee.writes &+= 1
                end += 1
            }
        }
        return performed.upperBound..<(end - operations)
    }

    /// Whether a later packet of a flow was written, behind which nothing is sent that came before it.
    private func isOvertaken(_ index: Int, in performed: Range<Int>) -> Bool {
        let first = verdicts + Int(operations[index].frame)
        return ((index + 1)..<performed.upperBound).contains { later in
            let operation = operations[later]
            return operation.target == .device && operation.result == operation.length
                && verdicts[Int(operation.frame)].mayShareFlow(with: first)
        }
    }

    /// Why a device did not take a packet.
    /// - Parameter result: a negative errno, or the bytes of a short write.
    /// - Parameter isCut: the kernel was to cut the packet.
    private func refusal(_ result: Int32, isCut: Bool) -> DropReason {
        switch -result {
        case ErrorNumber.again, ErrorNumber.noBuffers, ErrorNumber.noMemory: .deviceFull
        case ErrorNumber.invalid where isCut: .gsoInvalid
        default: .deviceError
        }
    }
}

extension Verdict {
    mutating func refuse(_ reason: DropReason) {
        kind = .drop
        self.reason = reason
    }
}

extension UnsafeMutableRawPointer {
    /// Copies in steps of 16 bytes, the last of which covers what the one before it did already.
    @inline(__always)
    fileprivate func copySmall(from source: UnsafeRawPointer, _ count: Int) {
        guard count >= 16 else {
            for offset in 0..<count {
                storeBytes(
                    of: source.load(fromByteOffset: offset, as: UInt8.self), toByteOffset: offset,
                    as: UInt8.self)
            }
            return
        }
        func copy(at offset: Int) {
            storeBytes(
                of: source.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self),
                toByteOffset: offset, as: SIMD16<UInt8>.self)
        }
        var offset = 0
        while offset &+ 16 < count {
            copy(at: offset)
            offset &+= 16
        }
        copy(at: count &- 16)
    }
}
