// Filters in the language of pcap-filter(7), as classic BPF.

import CPcap
import IP

public enum CaptureFilter {
    /// Compiles a filter for frames of a link layer.
    /// - Returns: instructions (linux/filter.h `struct sock_filter`), 8 bytes each as they lie in memory.
    public static func compile(_ filter: String, _ link: LinkType) throws(CaptureError) -> [UInt64] {
        // libpcap's own number of LINKTYPE_RAW differs between systems.
        let number = link == .raw ? DLT_RAW : Int32(link.rawValue)
        guard let handle = pcap_open_dead(number, 262_144) else {
            throw CaptureError(message: "libpcap has no memory left")
        }
        defer { pcap_close(handle) }
        var program = bpf_program()
        // Netmask 0xffffffff: not known; only `ip broadcast` asks for it.
        guard pcap_compile(handle, &program, filter, 1, UInt32.max) == 0 else {
            let cause = String(cString: pcap_geterr(handle))
            throw CaptureError(message: "the filter \"\(filter)\" is wrong: \(cause)")
        }
        defer { pcap_freecode(&program) }
        let words = UnsafeRawBufferPointer(start: program.bf_insns, count: 8 * Int(program.bf_len))
        return (0..<Int(program.bf_len)).map { words.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self) }
    }
}
