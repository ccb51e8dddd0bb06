// The owner of this process's nftables tables, by libnftables.

import CLinux
import Glibc

/// What all tables of this process need, and their owner: the kernel lets nobody else change them (`flags
/// owner`, Linux 5.12), and removes them when this netlink socket closes, so SIGKILL leaves nothing.
/// One thread only.
public final class FilterContext {
    let pointer: OpaquePointer
    /// An answer of the kernel could not be read. libnftables would take it for the next one's, and end the
    /// process: no command is run in this context any more. Its tables go with it.
    public internal(set) var isSpoiled = false

    /// libnftables ends the process when it gets no socket. Open one at the start, when nothing is lost by
    /// that: a later lack of descriptors then ends nothing.
    public init() throws(SystemError) {
        _ = Descriptor(
            try check(
                "socket(NETLINK_NETFILTER)", "nftables", hint: "load the driver: modprobe nf_tables"
            ) { Sockets.open(AF_NETLINK, .raw, NETLINK_NETFILTER) })
        guard let context = nft_ctx_new(UInt32(NFT_CTX_DEFAULT)) else {
            throw SystemError("nft_ctx_new", "nftables", errno: ENOMEM)
        }
        // Without, it writes to our standard streams.
        nft_ctx_buffer_output(context)
        nft_ctx_buffer_error(context)
        pointer = context
    }

    deinit { nft_ctx_free(pointer) }
}
