// Where captured packets go: lines for people, or a pcapng file.

import Daemon
import Foundation
import IP
import LinuxIO

/// An enhanced packet block as `CaptureBlock` writes it.
struct CapturedBlock {
    private let block: [UInt8]

    init(_ block: [UInt8]) { self.block = block }

    private var count: Int { Int(word(block, 20)) }
    var bytes: ArraySlice<UInt8> {
        block[CaptureBlock.packetHeaderBytes..<CaptureBlock.packetHeaderBytes + count]
    }
    var interface: Int { Int(word(block, 8)) }
    var nanoseconds: UInt64 { UInt64(word(block, 12)) << 32 | UInt64(word(block, 16)) }

    /// The first option.
    var comment: String {
        let option = CaptureBlock.packetHeaderBytes + (count + 3) & ~3
        let length = Int(word(block, option) >> 16)
        return String(decoding: block[(option + 4)..<(option + 4 + length)], as: UTF8.self)
    }

    /// Of a statistics block: the packets that found no room.
    static func dropped(_ block: [UInt8]) -> UInt64? {
        guard block.count >= 36, word(block, 20) & 0xffff == 5 else { return nil }
        return UInt64(word(block, 28)) << 32 | UInt64(word(block, 24))
    }
}

struct CaptureOutput {
    private let file: Descriptor?
    private let path: String
    /// Link types of the interfaces.
    private var links: [UInt32] = []
    private var lastStatistics: [UInt8]?

    /// - Parameter path: nil: lines on standard output; `-`: pcapng there.
    init(_ path: String?) throws(Failure) {
        self.path = path ?? "-"
        guard let path else {
            file = nil
            return
        }
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC
        // What others sent each other is for nobody else to read.
        let number = path == "-" ? dup(STDOUT_FILENO) : open(path, flags, 0o600)
        guard number >= 0 else { throw Failure(message: "\(path): \(systemMessage())") }
        file = Descriptor(number)
    }

    mutating func write(_ block: [UInt8]) throws(Failure) {
        guard let file else { return try writeLine(block) }
        if let error = writeWhole(block, to: file.number).failure {
            if error == EPIPE { Output.endForClosedPipe() }
            throw Failure(message: "\(path) could not be written to its end: \(systemMessage(error))")
        }
    }

    /// Keeps what was lost for the end of the file.
    /// - Returns: false: nobody reads what is written.
    mutating func statistics(_ block: [UInt8]) throws(Failure) -> Bool {
        lastStatistics = block
        // A reader that went while nothing came is not told by a write.
        var polled = pollfd(fd: file?.number ?? STDOUT_FILENO, events: 0, revents: 0)
        if poll(&polled, 1, 0) > 0, polled.revents & Int16(POLLERR) != 0 { Output.endForClosedPipe() }
        return true
    }

    mutating func end() throws(Failure) {
        if let lastStatistics, file != nil { try write(lastStatistics) }
    }

    private mutating func writeLine(_ block: [UInt8]) throws(Failure) {
        switch word(block, 0) {
        case CaptureBlock.interface: links.append(word(block, 8) & 0xffff)
        case CaptureBlock.enhancedPacket:
            let packet = CapturedBlock(block)
            let isRaw = links[packet.interface] != 1
            let head = isRaw ? Array(packet.bytes) : Self.network(packet.bytes)
            let sign = isRaw && packet.comment.hasPrefix("verdict=inject") ? "-> " : ""
            try Output.print(
                "\(Self.clock(packet.nanoseconds)) \(sign)\(packet.comment) \(PacketLine.text(head))")
        default: break
        }
    }

    /// Behind Ethernet's header and tags.
    private static func network(_ frame: ArraySlice<UInt8>) -> [UInt8] {
        frame.withUnsafeBytes { buffer in
            guard let link = LinkType.ethernet.parse(buffer) else { return [] }
            return Array(buffer.dropFirst(link.length))
        }
    }

    private static func clock(_ nanoseconds: UInt64) -> String {
        var (seconds, parts) = (time_t(nanoseconds / 1_000_000_000), tm())
        localtime_r(&seconds, &parts)
        let micro = nanoseconds % 1_000_000_000 / 1000
        return String(
            format: "%02d:%02d:%02d.%06d", parts.tm_hour, parts.tm_min, parts.tm_sec, Int(micro))
    }
}
