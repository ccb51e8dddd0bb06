// Writes packets to a pcap file through libpcap, without a link layer.

import CPcap
import Foundation

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
        var error = CaptureError(message: "\(path) could not be written to its end: \(cause)")
        if path == "-" { error.errno = failure }
        throw error
    }
}
