// A worker's writes to the TUNs: one a packet or a run of joined ones, and what becomes of those refused.

import Forwarding
import Glibc
import LinuxIO

extension Worker {
    /// Queues a write for each run of packets that go on: one submit, and all have completed.
    func inject(_ count: Int, _ now: UInt64) throws(SystemError) {
        if isShadow { return }
        let joined =
            joinsAny
            ? joiner.join(frames, verdicts, count: count, kinds: kinds, cache: cache)
            : Joiner.Joined()
        isInRuns = 2 &* joined.followers.nonzeroBitCount >= count
        var queued = 0
        var vector = vectors
        for index in 0..<count {
            let verdict = verdicts + index
            if verdict.pointee.kind == .inject {
                if !joined.isMember(index) {
                    queueWrite(index, verdict, &vector)
                } else if joined.isFirst(index) {
                    queueRun(index, &vector)
                } else {
                    continue
                }
                queued &+= 1
            } else if verdict.pointee.kind == .reply {
                reply(index, verdict, now)
            }
        }
        hasSubmitted = queued > 0
        if queued == 0 { return }
        try complete(queued)
        if joined.firsts != 0 { try settleRuns(joined, count) }
    }

    private func complete(_ queued: Int) throws(SystemError) {
        try submit()
        var completed = reap().writes
        // A TUN queue never blocks, so this is for a kernel that defers its completions or took
        // only some of the writes.
        while completed < queued { completed &+= try wait() }
    }

    /// The fate of a run is that of each of its packets.
    @inline(never)
    private func settleRuns(_ joined: Joiner.Joined, _ count: Int) throws(SystemError) {
        for first in 0..<count where joined.isFirst(first) {
            let result = entries[first].result
            if result == entries[first].expected { continue }
            let reason =
                result == -EINVAL
                ? try refuseJoin(first, count) : Verdict.writeRefusal(result, isJoined: true)
            guard reason != .none else { continue }
            entries[first].isQueued = false
            var index = first
            for place in 1...joiner.count(of: first) {
                verdicts[index].kind = .drop
                verdicts[index].reason = reason
                if place < joiner.count(of: first) { index = joiner.follower(of: index) }
            }
        }
    }

    /// A kernel that refuses to cut, though it agreed to: nothing of the kind is joined for that
    /// device again, and what it refused goes out in single packets. Runs come here in order, so
    /// only what was written in between can be in the way: behind a packet of its flow nothing
    /// is sent that came before it.
    /// - Returns: why the run is lost; `.none`: it was written.
    private func refuseJoin(_ first: Int, _ count: Int) throws(SystemError) -> DropReason {
        let device = Int(verdicts[first].device)
        let isUDP = joiner.isUDP(first)
        kinds[device].remove(isUDP ? .udp : .tcp)
        assignment.joins[device].refusals?.note(isUDP ? .udp : .tcp)
        writer.begin()
        writer.add(.refusedJoins)
        writer.end()
        for later in (first + 1)..<count
        where entries[later].isQueued && entries[later].result == entries[later].expected
            && verdicts[later].mayShareFlow(with: verdicts + first)
        { return .gsoInvalid }
        let members = joiner.count(of: first)
        var index = first
        var vector = vectors
        for place in 1...members {
            queueWrite(index, verdicts + index, &vector)
            if place < members { index = joiner.follower(of: index) }
        }
        try complete(members)
        return .none
    }

    /// Tells the sender, at a rate that no flood can drive; what is not told is a drop.
    @inline(never)
    private func reply(_ index: Int, _ verdict: UnsafeMutablePointer<Verdict>, _ now: UInt64) {
        let device = assignment.world.policy.policy.devices[Int(verdict.pointee.device)]
        let isSent = assignment.replies?.send(
            frames[index], verdict.pointee, mtu: device.mtu, now: now, message: message)
        if isSent != true { verdict.pointee.kind = .drop }
    }

    /// The header and the rewritten head come from the entry's own memory: the slot stays as it
    /// was received, so that another process could judge it again.
    @inline(__always)
    private func queueWrite(
        _ index: Int, _ verdict: UnsafeMutablePointer<Verdict>,
        _ vector: inout UnsafeMutablePointer<iovec>
    ) {
        let own = scratch + index &* Self.scratchBytes
        let header = own + (16 - VirtioHeader.byteCount)
        header.virtioHeader = verdict.pointee.vnet
        let head = Int(verdict.pointee.headLength)
        let length = Int(verdict.pointee.length)
        let rest = frames[index].network + Int(verdict.pointee.offset)
        let total = UInt32(truncatingIfNeeded: VirtioHeader.byteCount &+ length)
        entries[index].isQueued = true
        entries[index].expected = Int32(bitPattern: total)
        let place = Int32(verdict.pointee.device)
        if length <= Limits.headBytes {
            // A small packet costs less copied here than gathered from two places there.
            (own + (16 &+ head)).copySmall(from: rest + head, length &- head)
            queue.queueWrite(place: place, header, total, tag: UInt64(index))
            return
        }
        let pair = vector
        vector += 2
        pair.initialize(to: iovec(iov_base: header, iov_len: VirtioHeader.byteCount &+ head))
        (pair + 1).initialize(
            to: iovec(
                iov_base: UnsafeMutableRawPointer(mutating: rest + head), iov_len: length &- head))
        queue.queueGather(place: place, pair, 2, tag: UInt64(index))
    }

    /// The run's headers, then each packet's payload from its slot.
    private func queueRun(_ first: Int, _ vector: inout UnsafeMutablePointer<iovec>) {
        let run = joiner.seal(first, frames, verdicts)
        let header = scratch + (first &* Self.scratchBytes &+ 16 &- VirtioHeader.byteCount)
        header.virtioHeader = run.vnet
        vector.initialize(
            to: iovec(iov_base: header, iov_len: VirtioHeader.byteCount &+ run.headers))
        var index = first
        var place = 1
        while true {
            let payload = frames[index].network + (Int(verdicts[index].offset) &+ run.headers)
            (vector + place).initialize(
                to: iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: payload),
                    iov_len: Int(verdicts[index].length) &- run.headers))
            if place == run.count { break }
            place &+= 1
            index = joiner.follower(of: index)
        }
        entries[first].isQueued = true
        entries[first].expected = Int32(
            truncatingIfNeeded: VirtioHeader.byteCount &+ run.length)
        queue.queueGather(
            place: Int32(verdicts[first].device), vector,
            UInt32(truncatingIfNeeded: place &+ 1), tag: UInt64(first))
        vector += place &+ 1
    }
}

extension Verdict {
    /// Turns an injection that the device refused into a drop.
    mutating func refuseWrite(_ result: Int32) {
        kind = .drop
        reason = Self.writeRefusal(result, isJoined: vnet.gsoType != VirtioHeader.gsoNone)
    }

    /// - Parameter result: a negative errno, or the bytes of a short write.
    static func writeRefusal(_ result: Int32, isJoined: Bool) -> DropReason {
        switch -result {
        case EAGAIN, ENOBUFS, ENOMEM: .deviceFull
        case EINVAL where isJoined: .gsoInvalid
        default: .deviceError
        }
    }
}

extension UnsafeMutableRawPointer {
    /// Copies in steps of 16 bytes, so up to 15 more than asked for: both sides have them, for
    /// a small packet stands far from its slot's end and the scratch is a multiple of 16.
    @inline(__always)
    fileprivate func copySmall(from source: UnsafeRawPointer, _ count: Int) {
        var offset = 0
        while offset < count {
            storeBytes(
                of: source.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self),
                toByteOffset: offset, as: SIMD16<UInt8>.self)
            offset &+= 16
        }
    }

    /// The ten bytes of a `virtio_net_hdr` at any alignment: the structure has no padding.
    @inline(__always)
    var virtioHeader: VirtioHeader {
        get { loadUnaligned(as: VirtioHeader.self) }
        nonmutating set { storeBytes(of: newValue, as: VirtioHeader.self) }
    }
}
