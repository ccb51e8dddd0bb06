// Part of Worker (Worker.swift): copies a batch's frames for whoever captures.

import Forwarding
import LinuxIO

extension Worker {
    /// Apart from `step`, which it costs a load and a comparison per batch while nobody captures.
    /// - Parameters:
    ///   - count: frames of the batch.
    ///   - operations: of the plan, and those that followed.
    @inline(never)
    func capture(_ count: Int, _ operations: Int) {
        for index in 0..<count where tap.wants(batch.verdicts + index) {
            let frame = received(index)
            var record = record(index)
            record.captured = UInt32(truncatingIfNeeded: frame.bytes.count)
            record.wire = UInt32(truncatingIfNeeded: max(frame.wireLength, frame.bytes.count))
            guard let base = frame.bytes.baseAddress else { continue }
            tap.put(record) { $0.copyMemory(from: base, byteCount: frame.bytes.count) }
        }
        guard tap.takesInjected else { return }
        for place in 0..<operations { captureInjected(batch.operations + place) }
    }

    /// What a device took, without the header that stands before the packet.
    private func captureInjected(_ operation: UnsafePointer<Batch.Operation>) {
        let operation = operation.pointee
        let first = Int(operation.frame)
        guard operation.target == .device, operation.result == operation.length,
            tap.wants(batch.verdicts + first)
        else { return }
        var record = record(first)
        record.isInjected = true
        record.device = operation.index
        record.captured = UInt32(Int(operation.length) - VirtioHeader.byteCount)
        record.wire = record.captured
        record.joined = operation.joined.isEmpty ? 1 : operation.pieceCount &- 1
        tap.put(record) { memory in
            guard operation.pieceCount > 0 else {
                return memory.copyMemory(
                    from: operation.memory + VirtioHeader.byteCount, byteCount: Int(record.captured))
            }
            var (end, skip) = (0, VirtioHeader.byteCount)
            for piece in 0..<Int(operation.pieceCount) {
                let part = operation.pieces[piece]
                memory.advanced(by: end).copyMemory(
                    from: part.base + skip, byteCount: part.count - skip)
                (end, skip) = (end + part.count - skip, 0)
            }
        }
    }

    private func record(_ index: Int) -> CaptureRecord {
        let verdict = batch.verdicts[index]
        var record = CaptureRecord()
        record.kind = verdict.kind.rawValue
        record.reason = verdict.reason.rawValue
        record.mode = verdict.mode.rawValue
        record.tunnel = verdict.tunnel
        record.device = verdict.device
        record.interface = batch.frames[index].interface
        record.time = Slots.nanoseconds(slots[index])
        record.generation = assignment.generation
        return record
    }

    /// The frame as it came, link layer included: in its slot, or among the copies. Of a frame that made a
    /// datagram whole the judge has moved `network`, so the slot itself is asked.
    private func received(_ index: Int) -> (bytes: UnsafeRawBufferPointer, wireLength: Int) {
        let slot = Slots.received(slots[index], limit: Limits.slotBytesMin)
        let frame = batch.frames[index]
        let start = frame.network - frame.linkLength
        let isCopy = slot.bytes.count < slot.wireLength && copies.holds(start)
        guard isCopy || start == slot.bytes.baseAddress else { return slot }
        let bytes = UnsafeRawBufferPointer(start: start, count: frame.length + frame.linkLength)
        return (bytes, slot.wireLength)
    }
}
