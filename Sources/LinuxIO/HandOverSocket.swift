// A connection between two processes of one user that carries descriptors beside messages (unix(7),
// SCM_RIGHTS). Messages keep their borders.

import CLinux
import Glibc

/// One end of such a connection. One thread at a time.
public final class HandOverSocket: Sendable {
    public let descriptor: Descriptor

    /// Bytes of a message that `receive` takes; what is longer goes into a `document`.
    public static let messageBytes = 4096
    /// Descriptors of a message; the kernel takes no more than 253 (SCM_MAX_FD of net/scm.h).
    public static let messageDescriptors = 200
    /// Bytes of a document that is read, so that a confused peer costs no more than this.
    static let documentBytes = 256 << 20

    /// An end that this process was started with.
    public init(adopting descriptor: Descriptor) { self.descriptor = descriptor }

    /// Two ends of one connection.
    public static func pair() throws(SystemError) -> (HandOverSocket, HandOverSocket) {
        var numbers: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
        try check("socketpair", "hand-over") { socketpair(AF_UNIX, type, 0, &numbers) }
        return (
            HandOverSocket(adopting: Descriptor(numbers[0])), HandOverSocket(adopting: Descriptor(numbers[1]))
        )
    }

    /// - Returns: nil where nobody listens at the path.
    public static func connect(to path: String) throws(SystemError) -> HandOverSocket? {
        let end = HandOverSocket(
            adopting: Descriptor(
                try check("socket(AF_UNIX)", path) { Sockets.open(AF_UNIX, .packets) }))
        do throws(SystemError) {
            try check("connect", path, grant: "run as the user of the running shuck") {
                UnixAddress(path: path).with { Glibc.connect(end.descriptor.number, $0, $1) }
            }
        } catch {
            guard [ENOENT, ECONNREFUSED].contains(error.errno) else { throw error }
            return nil
        }
        return end
    }

    /// The user at the other end, when it connected; nil where the kernel does not tell.
    public var peer: UnixAddress.Peer? {
        let unknown: (pid: pid_t, uid: uid_t, gid: gid_t) = (0, 0, 0)
        return descriptor.option(SOL_SOCKET, SO_PEERCRED, unknown)
            .map { UnixAddress.Peer(processID: $0.pid, user: $0.uid) }
    }

    // MARK: messages

    /// Sends one message. Waits for no longer than the time, where the other end does not read.
    /// - Parameter descriptors: at most `messageDescriptors`; they stay open here.
    public func send(
        _ message: [UInt8], descriptors: [Int32] = [], milliseconds: Int32
    ) throws(SystemError) {
        precondition(descriptors.count <= Self.messageDescriptors)
        var polled = pollfd(fd: descriptor.number, events: Int16(POLLOUT), revents: 0)
        if poll(&polled, 1, milliseconds) == 0 {
            throw SystemError("sendmsg", "hand-over", errno: ETIMEDOUT)
        }
        var message = message
        var control = Self.control(descriptors)
        try check("sendmsg", "hand-over") {
            Self.withMessage(&message, message.count, &control, control.count) {
                Int32(sendmsg(descriptor.number, &$0, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)))
            }
        }
    }

    /// Sends a datagram with descriptors to a socket that many send to. Waits for as long as its queue is
    /// full.
    /// - Returns: false with errno.
    public static func send(
        _ message: [UInt8], descriptors: [Int32], to address: UnixAddress
    ) -> Bool {
        let number = Sockets.open(AF_UNIX, .datagram)
        guard number >= 0 else { return false }
        let socket = Descriptor(number)
        guard address.with({ Glibc.connect(number, $0, $1) }) == 0 else { return false }
        do throws(SystemError) {
            try HandOverSocket(adopting: socket).send(message, descriptors: descriptors, milliseconds: 1000)
            return true
        } catch {
            errno = error.errno
            return false
        }
    }

    /// Takes the next message.
    /// - Returns: nil when the other end is closed. An error says that none came in time.
    public func receive(
        milliseconds: Int32
    ) throws(SystemError) -> (message: [UInt8], descriptors: [Descriptor])? {
        guard let piece = try receivePiece(bytes: Self.messageBytes, milliseconds: milliseconds) else {
            return nil
        }
        guard piece.isWhole else {
            throw SystemError(
                "recvmsg", "hand-over", errno: EMSGSIZE,
                hint: "descriptors are missing: raise the limit of open files (LimitNOFILE=)")
        }
        return (piece.bytes, piece.descriptors)
    }

    /// A message as it came.
    public struct Piece: Sendable {
        public var bytes: [UInt8]
        public var descriptors: [Descriptor]
        /// Else it was longer than the buffer, or this process may not have all of its descriptors.
        public var isWhole: Bool
    }

    /// Takes the next message, also when some of its descriptors are missing.
    /// - Parameter bytes: as long as it may be.
    /// - Returns: nil when the other end is closed. An error says that none came in time.
    public func receivePiece(bytes: Int, milliseconds: Int32) throws(SystemError) -> Piece? {
        guard Host.waitReadable([descriptor.number], milliseconds: milliseconds)[0] else {
            throw SystemError("recvmsg", "hand-over", errno: ETIMEDOUT)
        }
        var message = [UInt8](repeating: 0, count: bytes)
        var control = [UInt8](repeating: 0, count: 16 + 4 * Self.messageDescriptors)
        var (count, flags, controlCount): (Int32, Int32, Int) = (0, 0, 0)
        do throws(SystemError) {
            count = try check("recvmsg", "hand-over") {
                let bytes = message.count
                return Self.withMessage(&message, bytes, &control, control.count) { header in
                    let received = recvmsg(
                        descriptor.number, &header,
                        Int32(MSG_CMSG_CLOEXEC | MSG_DONTWAIT))
                    (flags, controlCount) = (header.msg_flags, Int(header.msg_controllen))
                    return Int32(received)
                }
            }
        } catch {
            guard error.errno == ECONNRESET else { throw error }
            return nil
        }
        // First of all, so that each is closed whatever follows.
        let descriptors = Self.descriptors(control.prefix(controlCount))
        let isWhole = flags & Int32(MSG_TRUNC | MSG_CTRUNC) == 0
        if count == 0 && descriptors.isEmpty && isWhole { return nil }
        return Piece(bytes: Array(message.prefix(Int(count))), descriptors: descriptors, isWhole: isWhole)
    }

    private static let rights = Int32(SCM_RIGHTS)

    /// `struct cmsghdr` of SCM_RIGHTS: its length, level and type, then the numbers.
    private static func control(_ descriptors: [Int32]) -> [UInt8] {
        if descriptors.isEmpty { return [] }
        var header = cmsghdr()
        header.cmsg_len = 16 + 4 * descriptors.count
        header.cmsg_level = SOL_SOCKET
        header.cmsg_type = rights
        return withUnsafeBytes(of: header) { Array($0) } + descriptors.withUnsafeBytes { Array($0) }
            + [UInt8](repeating: 0, count: descriptors.count % 2 * 4)
    }

    private static func descriptors(_ control: ArraySlice<UInt8>) -> [Descriptor] {
        Array(control).withUnsafeBytes { bytes in
            guard bytes.count >= 16 else { return [] }
            let header = bytes.loadUnaligned(as: cmsghdr.self)
            guard header.cmsg_level == SOL_SOCKET, header.cmsg_type == rights else {
                return []
            }
            return stride(from: 16, to: min(Int(header.cmsg_len), bytes.count) - 3, by: 4).map {
                Descriptor(bytes.loadUnaligned(fromByteOffset: $0, as: Int32.self))
            }
        }
    }

    private static func withMessage(
        _ message: inout [UInt8], _ count: Int, _ control: inout [UInt8], _ controlCount: Int,
        _ body: (inout msghdr) -> Int32
    ) -> Int32 {
        message.withUnsafeMutableBytes { bytes in
            control.withUnsafeMutableBytes { controlBytes in
                var piece = iovec(iov_base: bytes.baseAddress, iov_len: count)
                return withUnsafeMutablePointer(to: &piece) { piece in
                    var header = msghdr()
                    header.msg_iov = piece
                    header.msg_iovlen = 1
                    if controlCount > 0 {
                        header.msg_control = controlBytes.baseAddress
                        header.msg_controllen = controlCount
                    }
                    return body(&header)
                }
            }
        }
    }

    // MARK: documents

    /// Text of any length as a file without a name, to be sent as a descriptor.
    public static func document(_ text: [UInt8]) throws(SystemError) -> Descriptor {
        let file = Descriptor(try checkNegative("memfd_create", "hand-over", clinux_memfd("shuck-hand-over")))
        let (_, failure) = writeWhole(text, to: file.number)
        if let failure { throw SystemError("write", "hand-over", errno: failure) }
        return file
    }

    /// All of a document, whoever wrote it last.
    public static func text(of document: Descriptor) throws(SystemError) -> [UInt8] {
        guard let size = document.status?.st_size, size <= documentBytes else {
            throw SystemError("fstat", "hand-over", errno: EFBIG)
        }
        try check("lseek", "hand-over") { Int32(truncatingIfNeeded: lseek(document.number, 0, SEEK_SET)) }
        let (bytes, failure) = readWhole(document.number)
        if let failure { throw SystemError("read", "hand-over", errno: failure) }
        return bytes
    }
}

/// Where a running process is found by the one that takes its place. Only its own user can connect.
public final class HandOverListener: Sendable {
    public let descriptor: Descriptor
    public let path: String

    private static let backlog: Int32 = 4

    /// Replaces what an earlier process left at the path. For the holder of the instance lock alone.
    public init(path: String) throws(SystemError) {
        self.path = path
        let number = try check("socket(AF_UNIX)", path) {
            Sockets.open(AF_UNIX, .packets, isNonBlocking: true)
        }
        descriptor = Descriptor(number)
        unlink(path)
        // The file takes the mode of the socket's own inode; the umask can only narrow it.
        fchmod(number, 0o600)
        try check("bind(AF_UNIX)", path) { UnixAddress(path: path).with { bind(number, $0, $1) } }
        try check("listen(AF_UNIX)", path) { listen(number, Self.backlog) }
    }

    /// The listener of another process, which it handed over: who waits there is served here.
    public init(adopting descriptor: Descriptor, path: String) {
        self.descriptor = descriptor
        self.path = path
        // The kernel tells who called listen(2) last (net/unix/af_unix.c `unix_listen`).
        listen(descriptor.number, Self.backlog)
    }

    public func remove() { unlink(path) }

    /// - Returns: nil when nobody waits, or somebody else's process: that one is turned away.
    public func accept() -> HandOverSocket? {
        let number = Glibc.accept(descriptor.number, nil, nil)
        guard number >= 0 else { return nil }
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        let end = HandOverSocket(adopting: Descriptor(number))
        return end.peer?.user == geteuid() ? end : nil
    }
}
