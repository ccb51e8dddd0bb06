// A receive ring as the kernel keeps it: slots, and the queue of frames larger than a slot.

import Forwarding
import Synchronization

struct Ring {
    struct Slot: BitwiseCopyable {
        /// The frame is the worker's to read.
        var isReady = false
        /// It exceeds the slot; `isQueued`: the whole frame waits in the socket's queue.
        var isLarge = false
        var isQueued = false
        /// The worker has the frame of the queue.
        var isReceived = false
        /// It has bytes of its own, and its answer depends on others.
        var isFragment = false
        var template: Int32 = 0
        var length: Int32 = 0
        var marks = Marks()
        /// Number of the frame in the world.
        var frame = 0
        /// Number of the frame in the ring.
        var order = 0
        /// Workers that died while they had it.
        var deaths = 0
        /// Times that it was written, by all workers.
        var deliveries = 0
    }

    static let slotBytes = 2048
    /// Bytes of a frame that fit behind the slot's own header.
    static let fitting = slotBytes - 128
    private static let queueMax = 16
    private static let queuedBytes = 8192

    let slots: UnsafeMutablePointer<Slot>
    let mask: Int
    /// Where its worker stands, in memory that outlives it.
    let place: RingPlace
    private let placeWords: UnsafeMutablePointer<Atomic<UInt64>>
    private let memory: UnsafeMutableRawPointer
    private let queue: UnsafeMutableRawPointer
    private let queueLengths: UnsafeMutablePointer<Int>
    private var queueStart = 0
    private var queueCount = 0
    /// The slot that the kernel fills next.
    private var head = 0
    /// Frames that were put into slots, ever.
    private(set) var filled = 0
    /// Frames for which there was no slot.
    private(set) var dropped = 0
    /// The slot that the worker reads next.
    var cursor = 0

    init(count: Int) {
        mask = count - 1
        slots = .allocate(capacity: count)
        slots.initialize(repeating: Slot(), count: count)
        placeWords = .allocate(capacity: RingPlace.words)
        for word in 0..<RingPlace.words { (placeWords + word).initialize(to: Atomic(0)) }
        place = RingPlace(placeWords)
        memory = .allocate(byteCount: count * Self.slotBytes, alignment: 4096)
        queue = .allocate(byteCount: Self.queueMax * Self.queuedBytes, alignment: 64)
        queueLengths = .allocate(capacity: Self.queueMax)
    }

    func deallocate() {
        slots.deallocate()
        placeWords.deallocate()
        memory.deallocate()
        queue.deallocate()
        queueLengths.deallocate()
    }

    /// Where the frame in a slot begins, network header first.
    @inline(__always)
    func bytes(_ index: Int) -> UnsafeMutableRawPointer { memory + (index &* Self.slotBytes &+ 128) }

    @inline(__always)
    func isReady(_ index: Int) -> Bool { slots[index].isReady }

    /// As the kernel receives a frame.
    /// - Parameter hasRoom: whether the socket's queue takes a large one.
    /// - Returns: false: the ring is full.
    mutating func fill(
        _ template: UnsafePointer<Template>, _ index: Int, _ draft: Draft, frame: Int, hasRoom: Bool
    ) -> Bool {
        let slot = slots + head
        guard !slot.pointee.isReady else {
            dropped &+= 1
            return false
        }
        let length = draft.bytes?.count ?? template.pointee.count
        let isLarge = length > Self.fitting
        let isQueued = isLarge && hasRoom && queueCount < Self.queueMax
        slot.initialize(
            to: Slot(
                isReady: true, isLarge: isLarge, isQueued: isQueued, isFragment: draft.bytes != nil,
                template: Int32(index), length: Int32(length),
                marks: draft.marks, frame: frame, order: filled))
        if isQueued {
            let place = (queueStart &+ queueCount) % Self.queueMax
            write(queue + place &* Self.queuedBytes, template, draft)
            queueLengths[place] = length
            queueCount &+= 1
            bytes(head).copyMemory(from: queue + place &* Self.queuedBytes, byteCount: Self.fitting)
        } else if !isLarge {
            write(bytes(head), template, draft)
        }
        filled &+= 1
        head = (head &+ 1) & mask
        return true
    }

    @inline(__always)
    private func write(_ memory: UnsafeMutableRawPointer, _ template: UnsafePointer<Template>, _ draft: Draft)
    {
        if let bytes = draft.bytes {
            return memory.copyBytes(of: bytes)
        }
        memory.copyMemory(from: template.pointee.bytes, byteCount: template.pointee.count)
        draft.marks.write(
            to: memory + template.pointee.innerOffset, template.pointee.layout, template.pointee.sums)
    }

    /// As `PacketRing.receive`: frames of another length belong to slots that went without theirs.
    /// - Returns: bytes, 0 when the queue does not hold the frame.
    mutating func receive(into buffer: UnsafeMutableRawPointer, length: Int) -> Int {
        while queueCount > 0 {
            let place = queueStart
            queueStart = (queueStart &+ 1) % Self.queueMax
            queueCount &-= 1
            guard queueLengths[place] == length else { continue }
            buffer.copyMemory(from: queue + place &* Self.queuedBytes, byteCount: length)
            return length
        }
        return 0
    }

    /// Whether the next frame of the queue is the slot's.
    func isQueued(_ index: Int) -> Bool {
        let length = Int(slots[index].length)
        let next = UnsafeRawBufferPointer(start: queue + queueStart &* Self.queuedBytes, count: length)
        return queueCount > 0 && queueLengths[queueStart] == length && begins(next, as: index)
    }

    /// Whether a frame begins with what the slot holds of it.
    func begins(_ frame: UnsafeRawBufferPointer, as index: Int) -> Bool {
        frame.count >= Self.fitting
            && frame.prefix(Self.fitting).elementsEqual(
                UnsafeRawBufferPointer(start: bytes(index), count: Self.fitting))
    }

    /// Whether the kernel fills this slot next.
    func isNext(_ index: Int) -> Bool { index == head }
}
