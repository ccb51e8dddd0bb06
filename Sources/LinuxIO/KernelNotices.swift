// Changes of links, routes and rules as rtnetlink tells of them.

import Routing

/// What notices told of.
public struct KernelNotices: Sendable, Equatable {
    /// What one notice says of a link, in the order told.
    public struct LinkChange: Sendable, Equatable {
        public var index: Int32
        /// nil: it is gone.
        public var state: LinkState?
    }

    /// A change of one route, in the order told.
    public struct RouteChange: Sendable, Equatable {
        public var route: KernelRoute
        public var isNew: Bool
        /// Of a new one: it took the place of the first of its prefix, TOS and metric, or stands behind
        /// them (`NLM_F_REPLACE`, `NLM_F_APPEND`).
        public var isReplacing: Bool
        public var isAppended: Bool
    }

    /// Some did not fit the socket's buffer (ENOBUFS): only new dumps tell what is.
    public var areLost = false
    public var links = false
    /// An address went: routes may have gone with it, of which nobody tells.
    public var goneAddresses = false
    public var addresses = false
    /// Each link that is told of, as it then was.
    public var linkChanges: [LinkChange] = []
    /// `ignore_routes_with_linkdown` changed somewhere: routes died or live again.
    public var linkdownRule = false
    /// Forwarding or a reverse-path filter changed somewhere.
    public var settings = false
    public var rules = false
    public var nexthops = false
    public var routes: [RouteChange] = []

    public init() {}

    public var isEmpty: Bool { self == KernelNotices() }

    /// Whether more than routes, rules and nexthops may have changed.
    public var concernsLinks: Bool { areLost || links || addresses || goneAddresses }

    /// Adds that links, addresses or settings changed; not what became of routes and of each link.
    public mutating func addWhatConcernsLinks(of other: KernelNotices) {
        links = links || other.links || other.areLost
        addresses = addresses || other.addresses || other.goneAddresses
        settings = settings || other.settings || other.areLost
    }
}
