// Reads captures: pcap through libpcap, pcapng by `CaptureBlocks`.

import CPcap
import Foundation
import IP

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
    public var interfaceIndex: Int32? { interface.link.interfaceIndex(bytes) }
}

/// A capture in pcap or pcapng; `-` is standard input.
public final class CaptureReader {
    private enum Source {
        case libpcap(OpaquePointer, CaptureInterface)
        case blocks(CaptureBlocks)
    }

    /// Whether timestamps are finer than microseconds, or may be: the start of a pipe cannot be read
    /// twice, and nanoseconds lose nothing.
    public let isNanosecond: Bool
    private let path: String
    private let source: Source
    /// The packet that was read last, where no library holds it.
    private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    /// Packets read so far.
    private var count = 0

    public init(path: String) throws(CaptureError) {
        self.path = path
        guard let file = path == "-" ? fdopen(dup(STDIN_FILENO), "r") : fopen(path, "re") else {
            throw CaptureError(message: "\(path): \(String(cString: strerror(errno)))")
        }
        var status = stat()
        let isFile =
            path != "-" && fstat(fileno(file), &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        // Of a pcapng file alone the first byte is this; one can always be put back.
        let first = getc(file)
        ungetc(first, file)
        do throws(CaptureError) {
            if first == 0x0a {
                let blocks = CaptureBlocks(file)
                try blocks.readInterfaces()
                isNanosecond = !isFile || blocks.isNanosecond
                source = .blocks(blocks)
            } else {
                isNanosecond = !isFile || Self.hasNanoseconds(file)
                source = try Self.open(file, isNanosecond: isNanosecond)
            }
        } catch {
            throw CaptureError(message: "\(path): \(error.message)")
        }
    }

    deinit {
        if case .libpcap(let capture, _) = source { pcap_close(capture) }
        memory.deallocate()
    }

    /// libpcap does not tell. Leaves the file at its start.
    private static func hasNanoseconds(_ file: UnsafeMutablePointer<FILE>) -> Bool {
        var magic: UInt32 = 0
        fread(&magic, MemoryLayout<UInt32>.size, 1, file)
        rewind(file)
        return magic == 0xa1b2_3c4d || magic.byteSwapped == 0xa1b2_3c4d
    }

    /// A file of libpcap's own kind. Takes `file`.
    private static func open(
        _ file: UnsafeMutablePointer<FILE>, isNanosecond: Bool
    ) throws(CaptureError) -> Source {
        let message = UnsafeMutablePointer<CChar>.allocate(capacity: Int(PCAP_ERRBUF_SIZE))
        defer { message.deallocate() }
        let precision = isNanosecond ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO
        guard
            let capture = pcap_fopen_offline_with_tstamp_precision(file, UInt32(precision), message)
        else {
            fclose(file)
            throw CaptureError(message: String(cString: message))
        }
        // libpcap's own numbers are those of files, but for RAW.
        let number = pcap_datalink(capture)
        guard let link = number == DLT_RAW ? .raw : LinkType(number: UInt32(number)) else {
            let name = pcap_datalink_val_to_name(number).map { String(cString: $0) } ?? "unknown"
            pcap_close(capture)
            throw .unsupported(linkType: "\(name) (\(number))")
        }
        return .libpcap(capture, CaptureInterface(link: link))
    }

    /// nil at the end of the file.
    public func next() throws(CaptureError) -> CapturedPacket? {
        do throws(CaptureError) {
            guard let packet = try read() else { return nil }
            count += 1
            return packet
        } catch {
            throw CaptureError(message: "\(path): packet \(count): \(error.message)")
        }
    }

    private func read() throws(CaptureError) -> CapturedPacket? {
        switch source {
        case .blocks(let blocks): return try blocks.next().map { take($0, blocks) }
        case .libpcap(let capture, let interface):
            var header: UnsafeMutablePointer<pcap_pkthdr>?
            var bytes: UnsafePointer<UInt8>?
            switch pcap_next_ex(capture, &header, &bytes) {
            case 1:
                guard let header = header?.pointee else { return nil }
                return CapturedPacket(
                    time: header.ts, nanoseconds: nanoseconds(header.ts),
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
    private func nanoseconds(_ time: timeval) -> UInt64 {
        let seconds = UInt64(max(time.tv_sec, 0)).multipliedReportingOverflow(by: 1_000_000_000)
        let rest = UInt64(max(time.tv_usec, 0)).multipliedReportingOverflow(by: isNanosecond ? 1 : 1000)
        let sum = seconds.partialValue.addingReportingOverflow(rest.partialValue)
        return seconds.overflow || rest.overflow || sum.overflow ? .max : sum.partialValue
    }
}
