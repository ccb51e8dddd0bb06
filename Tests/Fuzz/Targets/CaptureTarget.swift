// Any bytes as a capture file: packets or one sentence, in pcap and pcapng, through libpcap.

import Captures
import Glibc

public final class CaptureTarget: FuzzTarget {
    private let descriptor: Int32
    private let path: String

    public init() {
        // In memory, and without a name as soon as it is open.
        let name = "/shuck-capture-\(getpid())"
        descriptor = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
        precondition(descriptor >= 0 && shm_unlink(name) == 0)
        path = "/proc/self/fd/\(descriptor)"
    }

    deinit { close(descriptor) }

    public func run(_ input: UnsafeRawBufferPointer) throws(Violation) {
        guard ftruncate(descriptor, 0) == 0,
            pwrite(descriptor, input.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!, input.count, 0)
                == input.count
        else { throw Violation("a file in memory cannot be written") }
        var packets = 0
        var total = 0
        var sum: UInt8 = 0
        var clock = CaptureClock()
        do throws(CaptureError) {
            let reader = try CaptureReader(path: path)
            while let packet = try reader.next() {
                packets += 1
                total += packet.bytes.count
                // Every byte must be there, for AddressSanitizer to see.
                for byte in packet.bytes { sum ^= byte }
                if let link = packet.interface.link.parse(packet.bytes),
                    link.length > packet.bytes.count
                {
                    throw CaptureError(message: "a link layer longer than its frame")
                }
                let before = clock.now
                clock.advance(to: packet.nanoseconds)
                guard clock.now >= before, clock.now - before <= CaptureClock.stepMax else {
                    throw CaptureError(message: "a link layer whose clock jumps")
                }
            }
        } catch {
            if error.message.hasPrefix("a link layer") { throw Violation(error.message) }
            guard !error.message.isEmpty else { throw Violation("an error without words") }
        }
        guard packets <= input.count else { throw Violation("more packets than bytes") }
        result = sum
    }

    /// Keeps the reading from being left out.
    private var result: UInt8 = 0

    public func seed(_ number: Int) -> [UInt8]? {
        func le16(_ value: Int) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8 & 255)] }
        func le32(_ value: Int) -> [UInt8] { le16(value & 0xffff) + le16(value >> 16) }
        let packet: [UInt8] = [0x45, 0, 0, 20] + [UInt8](repeating: 1, count: 16)
        func classic(_ magic: Int, link: Int, _ frame: [UInt8]) -> [UInt8] {
            le32(magic) + le16(2) + le16(4) + le32(0) + le32(0) + le32(262_144) + le32(link)
                + le32(1) + le32(2) + le32(frame.count) + le32(frame.count) + frame
        }
        func block(_ type: Int, _ body: [UInt8]) -> [UInt8] {
            le32(type) + le32(12 + body.count) + body + le32(12 + body.count)
        }
        let zeros = [UInt8](repeating: 0, count: 12)
        switch number {
        case 0: return classic(0xa1b2_c3d4, link: 1, zeros + [8, 0] + packet)
        case 1: return classic(0xa1b2_3c4d, link: 101, packet)
        case 2: return classic(0xa1b2_c3d4, link: 113, zeros + [0, 0, 8, 0] + packet)
        case 3:
            return classic(
                0xa1b2_c3d4, link: 276, [8, 0] + zeros + [0, 0, 0, 0, 0, 0] + packet)
        case 4, 5:
            let section = block(
                0x0a0d_0d0a, le32(0x1a2b_3c4d) + le16(1) + le16(0) + le32(-1) + le32(-1))
            let resolution: [UInt8] = number == 4 ? [] : [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]
            let description = block(1, le16(101) + le16(0) + le32(0) + resolution)
            return section + description
                + block(6, le32(0) + le32(1) + le32(2) + le32(20) + le32(20) + packet)
        case 6, 7, 8:
            // Two interfaces of two kinds and lengths, with names; times that a flipped bit or a
            // resolution takes out of any range.
            let section = block(
                0x0a0d_0d0a, le32(0x1a2b_3c4d) + le16(1) + le16(0) + le32(-1) + le32(-1))
            let name: [UInt8] = [2, 0, 4, 0] + Array("eth0".utf8)
            let scale: [UInt8] = [9, 0, 1, 0, number == 7 ? 0 : 0x83, 0, 0, 0]
            let offset = number == 8 ? le32(-1) + le32(0x7fff_ffff) : le32(1) + le32(0)
            let shift: [UInt8] = [14, 0, 8, 0] + offset
            let one = block(1, le16(1) + le16(0) + le32(65535) + name + scale + shift + le32(0))
            let other = block(1, le16(101) + le16(0) + le32(96))
            func enhanced(_ interface: Int, _ high: Int, _ frame: [UInt8]) -> [UInt8] {
                let padded = frame + [UInt8](repeating: 0, count: (4 - frame.count % 4) % 4)
                return block(
                    6,
                    le32(interface) + le32(high) + le32(2) + le32(frame.count)
                        + le32(frame.count) + padded)
            }
            let frame = zeros + [8, 0] + packet
            return section + one + other + enhanced(1, 0x000a_0000, packet)
                + enhanced(0, 0x800a_0000, frame) + enhanced(1, -1, packet)
                + block(3, le32(packet.count) + packet)
                + block(2, le16(1) + le16(0) + le32(5) + le32(2) + le32(20) + le32(20) + packet)
        default: return nil
        }
    }
}
