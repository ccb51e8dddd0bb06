// The help of each reason, and the table of reasons in docs/counters.md.
// `SHUCK_WRITE=1 swift test --filter ReasonTests` writes the table.

import Forwarding
import Foundation
import Testing

@testable import Daemon

@Suite struct ReasonTests {
    @Test func everyReasonHasHelpInTheOrderOfPrecedence() {
        #expect(ReasonHelp.all.map(\.reason) == DropReason.allCases.filter { $0 != .none })
    }

    @Test func conditionsAreReadWhereInnerHeadersStand() {
        #expect(
            FrameFilter.frames(outer6: "ip6[1] = 2", inner4: "$12:4 = 5", inner6: nil)
                == "(ip proto 4 and ip[32:4] = 5) or (ip6 proto 4 and ip6[1] = 2 and ip6[52:4] = 5)")
        #expect(
            FrameFilter.frames(outer4: nil, inner6: "($6 = 0 or $6 = 1)")
                == "(ip6 proto 41 and (ip6[46] = 0 or ip6[46] = 1))")
    }

    @Test func theTableOfReasonsIsThatOfTheReference() throws {
        let file = URL(filePath: #filePath).appending(path: "../../../docs/counters.md").standardized
        let text = try String(contentsOf: file, encoding: .utf8)
        let rows = ReasonHelp.all.map { help in
            "| `\(help.reason.name)` | \(help.meaning) | \(help.causes.joined(separator: "; ")) |\n"
        }
        let (start, end) = ("<!-- reasons -->\n", "<!-- end of reasons -->")
        let first = try #require(text.range(of: start)).upperBound
        let last = try #require(text.range(of: end)).lowerBound
        let table = "| reason | what it means | usual causes |\n| --- | --- | --- |\n" + rows.joined()
        if ProcessInfo.processInfo.environment["SHUCK_WRITE"] != nil {
            try (text[..<first] + table + text[last...]).write(to: file, atomically: true, encoding: .utf8)
        } else {
            #expect(text[first..<last] == table, "SHUCK_WRITE=1 swift test --filter ReasonTests writes it")
        }
    }
}
