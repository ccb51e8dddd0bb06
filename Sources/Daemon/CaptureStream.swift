// Sends a capture to its reader, and who may have one: CaptureStream, AdminPeer.

import Glibc
import NIOCore
import NIOHTTP1
import Settings

/// On the event loop of its channel alone.
final class CaptureStream {
    private let feed: CaptureFeed
    private let state: AdminState
    private let patience: TimeAmount
    private var task: RepeatedTask?
    /// When the reader last took something.
    private var lastTaken = NIODeadline.now()

    private static let chunkBytes = 256 << 10

    /// - Parameter patience: how long a reader may take nothing.
    init(_ feed: CaptureFeed, _ state: AdminState, patience: TimeAmount) {
        (self.feed, self.state, self.patience) = (feed, state, patience)
    }

    func begin(_ channel: Channel, _ snapshot: Snapshot) {
        send(feed.header(snapshot), to: channel)
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        let interval = TimeAmount.milliseconds(Timing.captureMilliseconds)
        task = channel.eventLoop.scheduleRepeatedTask(initialDelay: .zero, delay: interval) { _ in
            bound.value.turn(channel)
        }
    }

    /// Takes nothing from the workers while the reader stalls: what finds no room then is counted.
    private func turn(_ channel: Channel) {
        guard channel.isWritable else {
            if NIODeadline.now() - lastTaken > patience { channel.close(promise: nil) }
            return
        }
        lastTaken = .now()
        let bytes = feed.next(state.snapshot.withLock(\.self), limit: Self.chunkBytes)
        if !bytes.isEmpty { send(bytes, to: channel) }
    }

    private func send(_ bytes: [UInt8], to channel: Channel) {
        let part = HTTPServerResponsePart.body(.byteBuffer(channel.allocator.buffer(bytes: bytes)))
        channel.writeAndFlush(part, promise: nil)
    }

    func stop() {
        task?.cancel()
        feed.stop()
    }
}

/// Who is at the other end of the unix socket.
enum AdminPeer {
    /// Its user.
    static func user(of channel: Channel) -> EventLoopFuture<UInt32> {
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
        }
        // struct ucred: pid, uid, gid.
        let found: EventLoopFuture<Credentials> = provider.unsafeGetSocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
        return found.map(\.user)
    }

    private struct Credentials: BitwiseCopyable, Sendable {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
    }

    /// Frames hold what users send each other, so a capture takes more than the socket's mode.
    /// - Parameter user: nil: unknown.
    static func captureRefusal(_ user: UInt32?, _ admin: Configuration.Admin) -> String? {
        if let user, user == 0 || user == geteuid() || admin.capture { return nil }
        return "only root may capture: run as root, or write capture: on under admin"
    }
}
