// The way back of what probes are answered with: a route for each rewritten address leads to a device
// that a worker reads, and a socket sends each packet on out of the rule's interface.

import Forwarding
import Glibc
import IP
import LinuxIO
import Settings

/// What workers need for the answers.
final class Answers: @unchecked Sendable {
    // @unchecked: the device is the control thread's; workers see place and sockets.

    /// Where the routes lead. The kernel hands it all that is routed to a rule's address.
    let device: TunDevice
    /// Its place among the configured devices.
    let place: Int
    /// In the order of `Policy.rewrites`; nil: the interface is absent.
    let sockets: [AnswerSocket?]

    /// - Parameter device: the one that is read.
    init(_ configuration: Configuration, device: TunDevice, sockets: (String) -> AnswerSocket?) {
        self.device = device
        place = configuration.devices.firstIndex { $0.name == device.name } ?? 0
        self.sockets = configuration.inner.rewriteSources.map { sockets($0.interface) }
    }
}

extension Configuration {
    var asksForAnswers: Bool { !inner.rewriteSources.isEmpty && mode == .active }
}

/// One worker's reading of the answers' device.
final class AnswerLoop {
    /// Packets that are sent on before frames from the rings have their turn again.
    private static let turn = 64
    private static let bytes = PacketRing.virtioHeaderBytes + 40 + 65_535

    let answers: Answers
    /// This worker's queue.
    let descriptor: Int32
    var isPolled = false
    /// The queue may hold packets.
    var isReadable = false
    /// The device is gone: nothing to wait for before the next assignment.
    private(set) var isClosed = false
    private let buffer: UnsafeMutableRawPointer

    init(_ answers: Answers, worker queue: Descriptor) {
        self.answers = answers
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
            let socket = answers.sockets[Int(operation.index)]
            if socket?.send(operation.memory, Int(operation.length)) ?? false {
                sent += 1
            } else {
                failed += 1
            }
        }
        return (sent, failed)
    }
}
