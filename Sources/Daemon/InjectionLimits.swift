// The rates of `limits`, shared by all workers for as long as the configuration keeps them.

import Forwarding
import Settings

final class InjectionLimits: Sendable {
    let settings: Configuration.RateLimits
    let tokens: PacketLimits

    /// - Returns: nil without any limit; the old ones where nothing changed, with what they have counted.
    static func of(_ settings: Configuration.RateLimits, keeping old: InjectionLimits?) -> InjectionLimits? {
        guard settings.packetsPerSecond != nil || settings.perRemote != nil else { return nil }
        return old?.settings == settings ? old : InjectionLimits(settings)
    }

    private init?(_ settings: Configuration.RateLimits) {
        guard
            let tokens = PacketLimits(
                packetsPerSecond: settings.packetsPerSecond, perRemote: settings.perRemote,
                seed: .random(in: .min ... .max))
        else { return nil }
        self.settings = settings
        self.tokens = tokens
    }

    deinit { tokens.deallocate() }
}
