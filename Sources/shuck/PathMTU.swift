// The largest inner packet that passed, and what was said of larger ones.

import Probing

struct PathMTU {
    struct Refusal {
        /// Bytes of the inner packet.
        var size: Int
        /// nil: it was lost without a word.
        var report: ICMPReport?
    }

    var innerBytes = 0
    var refusals: [Refusal] = []
}
