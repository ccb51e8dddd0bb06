// Which routing table.

import IP

struct TableID: Hashable, Sendable {
    var isIPv4: Bool
    var table: UInt32
}

extension TableID {
    /// What a lookup asks: 0 is main (net/ipv4/fib_frontend.c `fib_get_table`).
    init(isIPv4: Bool, asked table: UInt32) {
        self.init(isIPv4: isIPv4, table: table == 0 ? RouteEntry.tableMain : table)
    }
}
