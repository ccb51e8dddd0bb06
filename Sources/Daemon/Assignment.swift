// What a worker is told to run on, and the way it comes there.

import Forwarding
import LinuxIO
import Settings
import Synchronization

/// What a worker runs on from one batch border to the next. Immutable.
final class Assignment: Sendable {
    struct Port: Sendable {
        /// Index into the policy's interfaces.
        let interface: UInt16
        let ring: PacketRing
    }

    let generation: UInt64
    let world: World
    let fragments: Configuration.Fragments
    let ports: [Port]
    /// This worker's queue of each device, in the policy's order; nil: the device is absent.
    let queues: [Descriptor?]
    /// What may be joined for each of them, and where to say that the kernel refused it.
    let joins: [(kinds: Joiner.Kinds, refusals: TunDevice.Refusals?)]
    /// nil: no device needs them.
    let replies: Replies?
    /// nil: no probe is rewritten.
    let answers: Answers?
    let counters: CounterBlock
    let busyPollNanoseconds: UInt64
    /// Judge and count, inject nothing.
    let isShadow: Bool
    /// Empty the rings, then end.
    let isLast: Bool

    init(
        generation: UInt64, world: World, fragments: Configuration.Fragments, ports: [Port],
        devices: [(device: TunDevice?, queue: Int)], coalesce: Bool, replies: Replies?,
        answers: Answers?,
        counters: CounterBlock, busyPollNanoseconds: UInt64, isShadow: Bool, isLast: Bool
    ) {
        self.generation = generation
        self.world = world
        self.fragments = fragments
        self.ports = ports
        queues = devices.map { $0.device?.queues[$0.queue] }
        joins = devices.map { device, _ in
            (coalesce ? device?.joins ?? [] : [], device?.refusals)
        }
        self.replies = replies
        self.answers = answers
        self.counters = counters
        self.busyPollNanoseconds = busyPollNanoseconds
        self.isShadow = isShadow
        self.isLast = isLast
    }
}

extension TunDevice {
    /// What its kernel cuts, as far as is known.
    var joins: Joiner.Kinds {
        let offloads = usableOffloads
        // A joined packet's checksums are made when it is cut.
        guard offloads.contains(.checksum) else { return [] }
        return (offloads.contains(.tcp) ? Joiner.Kinds.tcp : [])
            .union(offloads.contains(.udp) ? .udp : [])
    }
}

/// The way to a worker: the next assignment, taken at a batch border without a lock.
final class Mailbox: Sendable {
    /// A retained `Assignment`, or 0.
    private let next = Atomic<UInt>(0)
    /// The generation that the worker runs on.
    let taken = Atomic<UInt64>(0)
    /// Set when the worker ended; holds whether it ended as it was told to.
    let failure = Mutex<String?>(nil)
    let wakeup: Wakeup

    init() throws(SystemError) { wakeup = try Wakeup() }

    deinit { _ = take() }

    func post(_ assignment: Assignment) {
        let new = UInt(bitPattern: Unmanaged.passRetained(assignment).toOpaque())
        // One that was never taken is replaced.
        _ = Self.owned(next.exchange(new, ordering: .acquiringAndReleasing))
        wakeup.signal()
    }

    @inline(__always)
    var isEmpty: Bool { next.load(ordering: .relaxed) == 0 }

    func take() -> Assignment? { Self.owned(next.exchange(0, ordering: .acquiringAndReleasing)) }

    private static func owned(_ bits: UInt) -> Assignment? {
        UnsafeMutableRawPointer(bitPattern: bits).map {
            Unmanaged<Assignment>.fromOpaque($0).takeRetainedValue()
        }
    }
}
