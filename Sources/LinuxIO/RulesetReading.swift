// Lists the rules of nftables, those of iptables-nft included.

import CLinux
import Glibc

extension FilterContext {
    /// The lines of `nft --handle --stateless --numeric-protocol list ruleset`, of this thread's namespace.
    public static func ruleset() throws(SystemError) -> [String] {
        // libnftables would tell standard error, too.
        guard !Host.missingCapabilities().contains("CAP_NET_ADMIN") else {
            throw SystemError("nft list ruleset", "nftables", errno: EPERM, hint: "grant CAP_NET_ADMIN")
        }
        let context = try FilterContext()
        let flags = NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_NUMERIC_PROTO
        nft_ctx_output_set_flags(context.pointer, UInt32(flags))
        errno = 0
        guard nft_run_cmd_from_buffer(context.pointer, "list ruleset\n") == 0 else {
            throw SystemError("nft list ruleset", "nftables", errno: errno == 0 ? EINVAL : errno)
        }
        let text = nft_ctx_get_output_buffer(context.pointer).map { String(cString: $0) } ?? ""
        return text.split(separator: "\n").map(String.init)
    }
}
