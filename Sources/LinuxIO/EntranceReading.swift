// Reads which programs see the frames of an interface first, and its receive offloads.

import CLinux
import Glibc

/// What stands at the entrance of an interface. Reading it changes nothing.
public enum Entrance {
    /// XDP's mode (linux/if_link.h `XDP_ATTACHED_*`) and program; nil: none.
    public static func xdp(index: Int32) throws(SystemError) -> (mode: UInt8, name: String)? {
        let found = try NetlinkSocket().answer(to: "link \(index)") { message in
            message.begin(type: RTM_GETLINK, flags: 0)
            message.linkHeader(index: index, up: false)
        } _: {
            NetlinkParser.xdp($0)
        }
        return found.map { ($0.mode, name(ofProgram: $0.program)) }
    }

    /// Programs at tcx, in the order in which they run; none where the kernel has no tcx.
    public static func tcx(index: Int32) throws(SystemError) -> [String] {
        var identifiers = [UInt32](repeating: 0, count: 64)
        var attributes = bpf_attr()
        attributes.query.target_fd = UInt32(index)
        attributes.query.attach_type = UInt32(CLINUX_BPF_TCX_INGRESS)
        attributes.query.prog_cnt = UInt32(identifiers.count)
        let result = identifiers.withUnsafeMutableBufferPointer { buffer in
            attributes.query.prog_ids = UInt64(UInt(bitPattern: buffer.baseAddress))
            return clinux_bpf(
                Int32(BPF_PROG_QUERY.rawValue), &attributes, UInt32(MemoryLayout<bpf_attr>.size))
        }
        // Before Linux 6.6.
        if result == -EINVAL { return [] }
        try checkNegative("bpf(BPF_PROG_QUERY tcx)", "link \(index)", hint: "grant CAP_NET_ADMIN", result)
        return identifiers.prefix(Int(attributes.query.prog_cnt)).map(name(ofProgram:))
    }

    /// Filters of traffic control at ingress, in the order in which they run.
    public static func filters(index: Int32) throws(SystemError) -> [String] {
        try NetlinkSocket().ingressFilters(of: index)
    }

    private static func name(ofProgram identifier: UInt32) -> String {
        var attributes = bpf_attr()
        attributes.prog_id = identifier
        let size = UInt32(MemoryLayout<bpf_attr>.size)
        let number = clinux_bpf(Int32(BPF_PROG_GET_FD_BY_ID.rawValue), &attributes, size)
        guard number >= 0 else { return "program \(identifier)" }
        let program = Descriptor(number)
        var information = bpf_prog_info()
        let result = withUnsafeMutableBytes(of: &information) { memory in
            var question = bpf_attr()
            question.info.bpf_fd = UInt32(program.number)
            question.info.info_len = UInt32(memory.count)
            question.info.info = UInt64(UInt(bitPattern: memory.baseAddress))
            return clinux_bpf(Int32(BPF_OBJ_GET_INFO_BY_FD.rawValue), &question, size)
        }
        let bytes = withUnsafeBytes(of: &information.name) { Array($0.prefix { $0 != 0 }) }
        guard result >= 0, !bytes.isEmpty else { return "program \(identifier)" }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A value of linux/ethtool.h; nil where the driver does not tell.
    private static func value(_ interface: String, _ command: UInt32) -> UInt32? {
        let descriptor = Descriptor(Sockets.open(AF_INET, .datagram))
        let result = clinux_ethtool(descriptor.number, interface, command)
        return result < 0 ? nil : UInt32(result)
    }

    public static func hasGRO(_ interface: String) -> Bool? {
        value(interface, UInt32(ETHTOOL_GGRO)).map { $0 != 0 }
    }

    public static func hasLRO(_ interface: String) -> Bool? {
        // ETH_FLAG_LRO
        value(interface, UInt32(ETHTOOL_GFLAGS)).map { $0 & 1 << 15 != 0 }
    }
}
