// What rtnetlink answers, as bytes: messages of a dump and their attributes. No socket, no trust.

import CLinux
import Glibc

package enum NetlinkAnswer {
    package enum Progress: Equatable {
        case more
        case done
        /// errno.
        case failed(Int32)
    }

    private static let headerBytes = 16

    /// Walks the messages of one datagram; `each` sees those of this dump, header included.
    /// - Parameter isConsistent: set to false when the tables changed under the dump.
    package static func walk(
        _ datagram: UnsafeRawBufferPointer, _ sequence: UInt32, _ isConsistent: inout Bool,
        _ each: (UnsafeRawBufferPointer) -> Void
    ) -> Progress {
        var offset = 0
        while offset + headerBytes <= datagram.count {
            let header = datagram.loadUnaligned(fromByteOffset: offset, as: nlmsghdr.self)
            let length = Int(header.nlmsg_len)
            guard length >= headerBytes, offset + length <= datagram.count else { return .more }
            let message = UnsafeRawBufferPointer(rebasing: datagram[offset..<offset + length])
            if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { isConsistent = false }
            switch Int32(header.nlmsg_type) {
            case NLMSG_DONE: return .done
            case NLMSG_ERROR:
                guard length >= headerBytes + 4 else { return .failed(EBADMSG) }
                let error = message.loadUnaligned(fromByteOffset: headerBytes, as: Int32.self)
                return .failed(0 &- error)
            default: if header.nlmsg_seq == sequence { each(message) }
            }
            offset += (length + 3) & ~3
        }
        return .more
    }

    /// nil when the message is too short to describe a link.
    package static func link(_ message: UnsafeRawBufferPointer) -> Link? {
        guard let info = payload(of: message, as: ifinfomsg.self) else { return nil }
        var link = Link(
            index: info.ifi_index, name: "", mtu: 0, isUp: info.ifi_flags & UInt32(IFF_UP) != 0,
            hardwareType: info.ifi_type)
        attributes(message, after: MemoryLayout<ifinfomsg>.size) { type, value in
            switch Int(type) {
            case Int(IFLA_IFNAME):
                link.name = String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
            case Int(IFLA_MTU) where value.count >= 4:
                link.mtu = Int(value.loadUnaligned(as: UInt32.self))
            default: break
            }
        }
        return link
    }

    /// nil for a cached clone, another family, or a message too short to describe a route.
    package static func route(_ message: UnsafeRawBufferPointer) -> KernelRoute? {
        guard let header = payload(of: message, as: rtmsg.self),
            header.rtm_flags & UInt32(RTM_F_CLONED) == 0,
            header.rtm_family == UInt8(AF_INET) || header.rtm_family == UInt8(AF_INET6)
        else { return nil }
        var route = KernelRoute(
            isIPv4: header.rtm_family == UInt8(AF_INET), destination: [],
            length: Int(header.rtm_dst_len), table: UInt32(header.rtm_table),
            type: header.rtm_type, metric: 0, tos: header.rtm_tos, interfaces: [])
        attributes(message, after: MemoryLayout<rtmsg>.size) { type, value in
            switch Int(type) {
            case Int(RTA_DST.rawValue): route.destination = Array(value)
            case Int(RTA_TABLE.rawValue) where value.count >= 4:
                route.table = value.loadUnaligned(as: UInt32.self)
            case Int(RTA_PRIORITY.rawValue) where value.count >= 4:
                route.metric = value.loadUnaligned(as: UInt32.self)
            case Int(RTA_OIF.rawValue) where value.count >= 4:
                route.interfaces.append(value.loadUnaligned(as: Int32.self))
            case Int(RTA_MULTIPATH.rawValue): route.interfaces += nexthops(value)
            default: break
            }
        }
        return route
    }

    /// `struct rtnexthop` list: 2 bytes length, flags, hops, 4 bytes ifindex, then attributes.
    private static func nexthops(_ bytes: UnsafeRawBufferPointer) -> [Int32] {
        var found: [Int32] = []
        var offset = 0
        while offset + 8 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            guard length >= 8, offset + length <= bytes.count else { break }
            found.append(bytes.loadUnaligned(fromByteOffset: offset + 4, as: Int32.self))
            offset += (length + 3) & ~3
        }
        return found
    }

    private static func payload<T: BitwiseCopyable>(
        of message: UnsafeRawBufferPointer, as: T.Type
    ) -> T? {
        guard message.count >= headerBytes + MemoryLayout<T>.size else { return nil }
        return message.loadUnaligned(fromByteOffset: headerBytes, as: T.self)
    }

    private static func attributes(
        _ message: UnsafeRawBufferPointer, after header: Int,
        _ each: (UInt16, UnsafeRawBufferPointer) -> Void
    ) {
        var offset = headerBytes + ((header + 3) & ~3)
        while offset + 4 <= message.count {
            let length = Int(message.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            let type = message.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
            guard length >= 4, offset + length <= message.count else { return }
            each(
                type & 0x3fff,
                UnsafeRawBufferPointer(rebasing: message[offset + 4..<offset + length]))
            offset += (length + 3) & ~3
        }
    }
}
