// Frames that have killed two processes, kept as a capture beside the admin socket.

import Glibc
import IP
import LinuxIO

enum SkippedFrames {
    /// Captures that stay; older ones are removed.
    static let captures = 4

    /// Writes a capture, and the configuration that the frames met beside it, for their owner alone.
    /// - Parameters:
    ///   - interface: where they came in.
    ///   - worker: whose ring held them.
    ///   - socket: the admin socket's path.
    /// - Returns: the capture's path; the configuration's is the same with `.yaml` behind it.
    static func keep(
        _ frames: [SkippedFrame], from interface: String, worker: Int, _ configuration: String,
        beside socket: String, unixSeconds: Int
    ) throws(SystemError) -> String {
        removeOld(beside: socket)
        let path = "\(socket).skipped-\(unixSeconds)-\(interface)-\(worker).pcap"
        try write(capture(frames), path)
        do throws(SystemError) {
            try write(Array(configuration.utf8), path + ".yaml")
        } catch {
            unlink(path)
            throw error
        }
        return path
    }

    /// So that one more fits.
    private static func removeOld(beside socket: String) {
        let slash = socket.lastIndex(of: "/")
        let directory = slash.map { String(socket[...$0]) } ?? "./"
        let prefix = slash.map { String(socket[socket.index(after: $0)...]) } ?? socket
        let kept = Host.entries(directory)
            .filter { $0.hasPrefix(prefix + ".skipped-") && $0.hasSuffix(".pcap") }.sorted()
        for name in kept.dropLast(captures - 1) {
            unlink(directory + name)
            unlink(directory + name + ".yaml")
        }
    }

    private static func write(_ bytes: [UInt8], _ path: String) throws(SystemError) {
        let number = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw SystemError("open", path, errno: errno) }
        defer { close(number) }
        if let failure = writeWhole(bytes, to: number).failure {
            unlink(path)
            throw SystemError("write", path, errno: failure)
        }
    }

    /// pcap with times in nanoseconds (draft-ietf-opsawg-pcap), in this host's byte order.
    private static func capture(_ frames: [SkippedFrame]) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ words: UInt32...) {
            for word in words { withUnsafeBytes(of: word) { bytes += $0 } }
        }
        // Version 2.4, the largest frame, LINKTYPE_ETHERNET.
        append(0xa1b2_3c4d, 4 << 16 | 2, 0, 0, UInt32(PacketRing.frameBytesMax), 1)
        for frame in frames {
            append(
                frame.seconds, frame.nanoseconds, UInt32(clamping: frame.bytes.count),
                UInt32(clamping: frame.wireLength))
            bytes += frame.bytes
        }
        return bytes
    }
}
