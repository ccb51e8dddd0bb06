// Return path of rewritten health probes: a host route per rewritten address points at a TUN that one
// worker reads, and a raw socket sends the reply on.

import Forwarding
import Glibc
import LinuxIO
import Settings

/// What workers need for it.
final class ProbeReturn: @unchecked Sendable {
    // @unchecked: the device is the control thread's; workers see place and sockets.

    /// Where the routes lead. The kernel hands it all that is routed to a rule's address.
    let device: TunDevice
    /// Its place among the configured devices.
    let place: Int
    /// In the order of `Policy.rewrites`; nil: the interface is absent.
    let sockets: [RawIPv6Socket?]

    /// - Parameter device: the one that is read.
    init(_ configuration: Configuration, device: TunDevice, sockets: (String) -> RawIPv6Socket?) {
        self.device = device
        place = configuration.devices.firstIndex { $0.name == device.name } ?? 0
        self.sockets = configuration.inner.rewriteSources.map { sockets($0.interface) }
    }
}

extension Configuration {
    var asksForAnswers: Bool { !inner.rewriteSources.isEmpty && mode == .active }
}

/// One worker's reading of the answers' device.
final class ProbeReturnLoop {
    /// Packets that are sent on before frames from the rings have their turn again.
    private static let turn = 64
    private static let bytes = PacketRing.virtioHeaderBytes + 40 + 65_535

    let probeReturn: ProbeReturn
    /// This worker's queue.
    let descriptor: Int32
    var isPolled = false
    /// The queue may hold packets.
    var isReadable = false
    /// The device is gone: nothing to wait for before the next assignment.
    private(set) var isClosed = false
    private let buffer: UnsafeMutableRawPointer

    init(_ probeReturn: ProbeReturn, worker queue: Descriptor) {
        self.probeReturn = probeReturn
        descriptor = queue.number
        buffer = .allocate(byteCount: Self.bytes, alignment: 16)
    }

    deinit { buffer.deallocate() }

    /// Takes what there is, at most a turn. Plain system calls: on some kernels a read by io_uring
    /// waits where there is nothing, and answers are few.
    /// - Returns: answers that were sent, and those that the kernel did not take.
    func run(_ batch: Batch) -> (sent: UInt64, failed: UInt64) {
        var (sent, failed): (UInt64, UInt64) = (0, 0)
        for _ in 0..<Self.turn {
            let count = read(descriptor, buffer, Self.bytes)
            if count < 0 {
                if errno == EINTR { continue }
                isReadable = false
                isClosed = errno != EAGAIN
                break
            }
            guard let operation = batch.planReturn(buffer, count: count) else { continue }
            let socket = probeReturn.sockets[Int(operation.index)]
            if socket?.send(operation.memory, Int(operation.length)) ?? false {
                sent += 1
            } else {
                failed += 1
            }
        }
        return (sent, failed)
    }
}
