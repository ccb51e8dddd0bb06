// A filter in the language of pcap-filter(7), for frames that are at hand.

import CPcap
import IP

/// A compiled filter for Ethernet frames.
public final class FrameProgram {
    private var program = bpf_program()

    public init(_ filter: String) throws(CaptureError) {
        // Says what is wrong with it.
        _ = try CaptureFilter.compile(filter, .ethernet)
        guard let handle = pcap_open_dead(DLT_EN10MB, 262_144) else {
            throw CaptureError(message: "libpcap has no memory left")
        }
        defer { pcap_close(handle) }
        guard pcap_compile(handle, &program, filter, 1, UInt32.max) == 0 else {
            throw CaptureError(message: "the filter \"\(filter)\" is wrong")
        }
    }

    deinit { pcap_freecode(&program) }

    public func matches(_ frame: ArraySlice<UInt8>) -> Bool {
        frame.withUnsafeBytes { bytes in
            var header = pcap_pkthdr()
            header.caplen = UInt32(bytes.count)
            header.len = header.caplen
            let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            return pcap_offline_filter(&program, &header, base) != 0
        }
    }
}
