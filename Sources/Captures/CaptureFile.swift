// Captures on disk: read as they came, pcap through libpcap, and written as IP packets without a link layer.

import CPcap
import Forwarding
import Foundation

/// Why a capture could not be read or written, in one sentence.
public struct CaptureError: Error {
    public var message: String
    /// Of a write to standard output that failed; else 0.
    public var errno: Int32
    public init(message: String, errno: Int32 = 0) {
        self.message = message
        self.errno = errno
    }
}

/// A packet of a capture. `bytes` is the reader's and valid until the next one is read.
public struct CapturedPacket {
    /// As the capture has it: `tv_usec` counts nanoseconds where it has them.
    public var time: timeval
    /// Since 1970, as near as 64 bits come to it.
    public var nanoseconds: UInt64
    public var bytes: UnsafeRawBufferPointer
    /// Bytes that were on the wire.
    public var wireLength: Int
    /// How the capture tells what it came in by, if it does: cooked v2 by ifindex alone.
    public var interface: CaptureInterface
    public var interfaceIndex: Int32?
}

extension LinkType {
    static func unsupported(_ name: String) -> String {
        """
        link type \(name) is not supported; there are Ethernet, RAW, IPV4, IPV6, LINUX_SLL and \
        LINUX_SLL2
        """
    }
}

/// A capture in pcap or pcapng; `-` is standard input.
public final class CaptureReader {
    private enum Source {
        case libpcap(OpaquePointer, CaptureInterface)
        case blocks(CaptureBlocks)
    }

    /// Finer than microseconds.
    public let isNanosecond: Bool
    private let path: String
    private let source: Source
    /// The packet that was read last, where no library holds it.
    private var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
    /// Packets read so far.
    private var count = 0

    public init(path: String) throws(CaptureError) {
        self.path = path
        isNanosecond = CapturePrecision.isNanosecond(path)
        guard let file = path == "-" ? fdopen(dup(STDIN_FILENO), "r") : fopen(path, "re") else {
            throw CaptureError(message: "\(path): \(String(cString: strerror(errno)))")
        }
        // Of a pcapng file alone the first byte is this; one can always be put back.
        let first = getc(file)
        ungetc(first, file)
        if first == 0x0a {
            let blocks = CaptureBlocks(file)
            do throws(CaptureError) {
                try blocks.readInterfaces()
            } catch {
                memory.deallocate()
                throw CaptureError(message: "\(path): \(error.message)")
            }
            source = .blocks(blocks)
        } else {
            do throws(CaptureError) {
                source = try Self.open(file, path, isNanosecond: isNanosecond)
            } catch {
                memory.deallocate()
                throw error
            }
        }
    }

    deinit {
        if case .libpcap(let capture, _) = source { pcap_close(capture) }
        memory.deallocate()
    }

    /// A file of libpcap's own kind. Takes `file`.
    private static func open(
        _ file: UnsafeMutablePointer<FILE>, _ path: String, isNanosecond: Bool
    ) throws(CaptureError) -> Source {
        let message = UnsafeMutablePointer<CChar>.allocate(capacity: Int(PCAP_ERRBUF_SIZE))
        defer { message.deallocate() }
        let precision = isNanosecond ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO
        guard
            let capture = pcap_fopen_offline_with_tstamp_precision(file, UInt32(precision), message)
        else {
            fclose(file)
            throw CaptureError(message: "\(path): \(String(cString: message))")
        }
        let number = pcap_datalink(capture)
        guard let link = link(number) else {
            let name = pcap_datalink_val_to_name(number).map { String(cString: $0) } ?? "unknown"
            pcap_close(capture)
            throw CaptureError(message: "\(path): " + LinkType.unsupported("\(name) (\(number))"))
        }
        return .libpcap(capture, CaptureInterface(name: nil, link: link, snapLength: 0))
    }

    /// From libpcap's DLT_ numbers, which for RAW are not those of files.
    private static func link(_ number: Int32) -> LinkType? {
        switch number {
        case DLT_EN10MB: .ethernet
        case DLT_RAW, DLT_IPV4, DLT_IPV6: .raw
        case DLT_LINUX_SLL: .linuxCooked
        case DLT_LINUX_SLL2: .linuxCooked2
        default: nil
        }
    }

    /// nil at the end of the file.
    public func next() throws(CaptureError) -> CapturedPacket? {
        do throws(CaptureError) {
            guard var packet = try read() else { return nil }
            count += 1
            packet.interfaceIndex = packet.interface.link.interfaceIndex(packet.bytes)
            return packet
        } catch {
            throw CaptureError(message: "\(path): packet \(count): \(error.message)")
        }
    }

    private func read() throws(CaptureError) -> CapturedPacket? {
        switch source {
        case .blocks(let blocks):
            guard let packet = try blocks.next() else { return nil }
            return take(packet, blocks)
        case .libpcap(let capture, let interface):
            var header: UnsafeMutablePointer<pcap_pkthdr>?
            var bytes: UnsafePointer<UInt8>?
            switch pcap_next_ex(capture, &header, &bytes) {
            case 1:
                guard let header = header?.pointee else { return nil }
                return CapturedPacket(
                    time: header.ts,
                    nanoseconds: Self.nanoseconds(header.ts, isNanosecond: isNanosecond),
                    bytes: UnsafeRawBufferPointer(start: bytes, count: Int(header.caplen)),
                    wireLength: Int(header.len), interface: interface)
            case PCAP_ERROR_BREAK: return nil
            default: throw CaptureError(message: String(cString: pcap_geterr(capture)))
            }
        }
    }

    private func take(_ packet: CaptureBlocks.Packet, _ blocks: CaptureBlocks) -> CapturedPacket {
        if packet.bytes.count > memory.count {
            memory.deallocate()
            memory = .allocate(byteCount: packet.bytes.count, alignment: 8)
        }
        memory.copyBytes(from: blocks.bytes(packet))
        let (seconds, fraction) = packet.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return CapturedPacket(
            // The seconds of a pcap file have 32 bits.
            time: timeval(
                tv_sec: Int(min(seconds, UInt64(UInt32.max))),
                tv_usec: Int(isNanosecond ? fraction : fraction / 1000)),
            nanoseconds: packet.nanoseconds,
            bytes: UnsafeRawBufferPointer(rebasing: memory[..<packet.bytes.count]),
            wireLength: packet.wireLength, interface: blocks.interfaces[packet.interface])
    }

    /// A damaged file may hold any seconds, and any number of microseconds beside them.
    private static func nanoseconds(_ time: timeval, isNanosecond: Bool) -> UInt64 {
        let seconds = UInt64(max(time.tv_sec, 0)).multipliedReportingOverflow(by: 1_000_000_000)
        let rest = UInt64(max(time.tv_usec, 0)).multipliedReportingOverflow(
            by: isNanosecond ? 1 : 1000)
        let sum = seconds.partialValue.addingReportingOverflow(rest.partialValue)
        return seconds.overflow || rest.overflow || sum.overflow ? .max : sum.partialValue
    }
}

/// A clock made of a capture's times, which may jump in a damaged file and go back in a merged one.
public struct CaptureClock {
    /// Nanoseconds that one step counts at most: the longest `outer.fragments.timeout`.
    public static let stepMax: UInt64 = 300_000_000_000

    /// Nanoseconds; never goes back. Far from both ends of its range.
    public private(set) var now: UInt64 = 1 << 60
    private var reference: UInt64?

    public init() {}

    /// A step forward counts as what it is, but no more than `stepMax`; one back counts as none, and
    /// when it is longer than that, what follows is counted from there.
    public mutating func advance(to time: UInt64) {
        defer { reference = reference ?? time }
        guard let last = reference else { return }
        if time >= last {
            now &+= min(time &- last, Self.stepMax)
            reference = time
        } else if last &- time > Self.stepMax {
            reference = time
        }
    }
}

/// Whether a file's timestamps are finer than microseconds, which libpcap does not tell.
enum CapturePrecision {
    /// Of what is not a regular file the start cannot be read twice: nanoseconds lose nothing.
    static func isNanosecond(_ path: String) -> Bool {
        var status = stat()
        guard path != "-", stat(path, &status) == 0 else { return true }
        guard status.st_mode & S_IFMT == S_IFREG else { return true }
        guard let file = FileHandle(forReadingAtPath: path) else { return true }
        let head = (try? file.read(upToCount: 65536)).flatMap { $0 } ?? Data()
        return isNanosecond(head: [UInt8](head))
    }

    /// `head`: the first bytes of the file, in pcapng all interface descriptions before the
    /// first packet.
    private static func isNanosecond(head: [UInt8]) -> Bool {
        guard head.count >= 12 else { return false }
        switch Array(head[0..<4]) {
        case [0xa1, 0xb2, 0x3c, 0x4d], [0x4d, 0x3c, 0xb2, 0xa1]: return true
        case [0x0a, 0x0d, 0x0d, 0x0a]: break
        default: return false
        }
        // draft-ietf-opsawg-pcapng §4.1: the byte-order magic stands behind the first length.
        let blocks = Blocks(bytes: head, isLittleEndian: head[8] == 0x4d)
        var offset = 0
        while offset + 12 <= head.count {
            let kind = blocks.u32(offset)
            let length = Int(blocks.u32(offset + 4))
            guard length >= 12, offset + length <= head.count, kind != 6, kind != 3 else { break }
            if kind == 1 && blocks.isFine(at: offset, length: length) { return true }
            offset += length
        }
        return false
    }

    private struct Blocks {
        let bytes: [UInt8]
        let isLittleEndian: Bool

        func u16(_ offset: Int) -> UInt16 {
            let (first, second) = (UInt16(bytes[offset]), UInt16(bytes[offset + 1]))
            return isLittleEndian ? second << 8 | first : first << 8 | second
        }

        func u32(_ offset: Int) -> UInt32 {
            let (first, second) = (UInt32(u16(offset)), UInt32(u16(offset + 2)))
            return isLittleEndian ? second << 16 | first : first << 16 | second
        }

        /// §4.2: option 9, `if_tsresol`, is a power of ten or, with the top bit, of two.
        func isFine(at start: Int, length: Int) -> Bool {
            var offset = start + 16
            let end = start + length - 4
            while offset + 4 <= end {
                let size = Int(u16(offset + 2))
                if u16(offset) == 9, size == 1, offset + 5 <= end {
                    let value = bytes[offset + 4]
                    return value & 0x80 == 0 ? value > 6 : value & 0x7f > 19
                }
                offset += 4 + (size + 3) & ~3
            }
            return false
        }
    }
}

/// A pcap file of linktype RAW (101); `-` is standard output.
public final class CaptureWriter {
    private let path: String
    private let capture: OpaquePointer
    private let dump: OpaquePointer
    private var packet: [UInt8] = []
    public private(set) var count = 0
    /// errno of the first write that failed.
    private var failure: Int32?

    public init(path: String, isNanosecond: Bool) throws(CaptureError) {
        self.path = path
        let precision = isNanosecond ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO
        // libpcap's own bound of a packet, 256 KiB: everything it reads fits.
        let made = pcap_open_dead_with_tstamp_precision(DLT_RAW, 262_144, UInt32(precision))
        guard let made else { throw CaptureError(message: "\(path): no memory") }
        capture = made
        guard let dump = pcap_dump_open(capture, path) else {
            let said = String(cString: pcap_geterr(capture))
            pcap_close(capture)
            throw CaptureError(message: said.hasPrefix(path) ? said : "\(path): \(said)")
        }
        self.dump = dump
    }

    deinit {
        pcap_dump_close(dump)
        pcap_close(capture)
    }

    /// Writes the packet whose first bytes are `head` and whose others are `rest`.
    public func write(_ time: timeval, _ head: UnsafeRawBufferPointer, _ rest: UnsafeRawBufferPointer) {
        packet.removeAll(keepingCapacity: true)
        packet.append(contentsOf: head)
        packet.append(contentsOf: rest)
        var header = pcap_pkthdr()
        header.ts = time
        header.caplen = UInt32(packet.count)
        header.len = header.caplen
        // pcap_dump takes its file as the callback's user pointer.
        let user = UnsafeMutableRawPointer(dump).assumingMemoryBound(to: UInt8.self)
        pcap_dump(user, &header, packet)
        if failure == nil, ferror(pcap_dump_file(dump)) != 0 { failure = errno }
        count += 1
    }

    /// Says what a full disk or a closed pipe kept from being written.
    public func flush() throws(CaptureError) {
        if pcap_dump_flush(dump) != 0, failure == nil { failure = errno }
        guard let failure else { return }
        let cause = String(cString: strerror(failure))
        throw CaptureError(
            message: "\(path) could not be written to its end: \(cause)",
            errno: path == "-" ? failure : 0)
    }
}
