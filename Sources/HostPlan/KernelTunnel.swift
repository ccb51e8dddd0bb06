// Which links are tunnels of the kernel for protocols 4 and 41.

import Routing

enum KernelTunnel {
    /// ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT.
    static func isOne(_ link: Link) -> Bool { [768, 769, 776].contains(link.hardwareType) }
}
